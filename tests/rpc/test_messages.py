"""The wire is a table: each request with its bytes, each reply with its bytes, checked in every direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.errors import LocalProtocolError, RemoteProtocolError
from rpc_wrapper.rpc.commands import SHAPES, PayloadSize
from rpc_wrapper.rpc.messages import (
    AllocBufferReply,
    AllocBufferRequest,
    DeviceCountReply,
    DeviceCountRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    FreeBufferRequest,
    HelloReply,
    HelloRequest,
    Message,
    OldHelloReply,
    OldHelloRequest,
    Reply,
    Request,
)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


# (message, the whole frame)
REQUESTS: list[tuple[Request, bytes]] = [
    (HelloRequest(), unhex("0e 1800000000000000") + bytes(24)),
    (HelloRequest(b"\x01" * 24), unhex("0e 1800000000000000") + b"\x01" * 24),
    (OldHelloRequest(), unhex("0e 0000000000000000")),
    (DeviceCountRequest(), unhex("0f 0000000000000000")),
    (DeviceMemoryRequest(2), unhex("0b 0400000000000000 02000000")),
    (AllocBufferRequest(1, 0x1_0000_0002), unhex("00 0c00000000000000 01000000 0200000001000000")),
    (FreeBufferRequest(0x7F00), unhex("04 0800000000000000 007f000000000000")),
]
# (message, the request it answers, the whole frame)
REPLIES: list[tuple[Reply, Request, bytes]] = [
    (HelloReply(7, 0, 1), HelloRequest(), unhex("1c00000000000000 07000100") + bytes(24)),
    (OldHelloReply(3, 6, 1), OldHelloRequest(), unhex("0300000000000000 030601")),
    (DeviceCountReply(3), DeviceCountRequest(), unhex("0400000000000000 03000000")),
    (
        DeviceMemoryReply(1 << 32, (1 << 32) + 1),
        DeviceMemoryRequest(0),
        unhex("1000000000000000 0000000001000000 0100000001000000"),
    ),
    (
        AllocBufferReply(0x10, 0x20),
        AllocBufferRequest(0, 32),
        unhex("1000000000000000 1000000000000000 2000000000000000"),
    ),
]
MESSAGES: list[tuple[Message, bytes]] = [(request, frame[9:]) for request, frame in REQUESTS]
MESSAGES += [(reply, frame[8:]) for reply, _, frame in REPLIES]


def name(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, Message) else None


@pytest.mark.parametrize(("request_", "frame"), REQUESTS, ids=name)
def test_a_request_is_framed_with_its_command_and_size(request_, frame):
    assert request_.frame() == frame


@pytest.mark.parametrize(("reply", "_", "frame"), REPLIES, ids=name)
def test_a_reply_is_framed_with_its_size_alone(reply, _, frame):
    assert reply.frame() == frame


@pytest.mark.parametrize(("message", "payload"), MESSAGES, ids=name)
def test_a_payload_unpacks_to_the_message(message, payload):
    assert type(message).unpack(payload) == message


@pytest.mark.parametrize(("message", "payload"), MESSAGES, ids=name)
def test_a_payload_too_long_or_too_short_is_the_peers_fault(message, payload):
    with pytest.raises(RemoteProtocolError, match="bytes instead of"):
        type(message).unpack(payload + b"\0")
    if payload:
        with pytest.raises(RemoteProtocolError, match="bytes instead of"):
            type(message).unpack(payload[:-1])


@pytest.mark.parametrize(
    "message", [message for message, _ in MESSAGES if "Old" not in type(message).__name__], ids=name
)
def test_layouts_have_the_sizes_that_the_command_table_states(message):
    shapes: dict[type[Message], PayloadSize | None] = {
        type(request): SHAPES[request.command].request for request, _ in REQUESTS
    }
    for reply, request, _ in REPLIES:
        shapes[type(reply)] = SHAPES[request.command].reply
    shape = shapes[type(message)]
    assert shape is not None
    assert shape.accepts(message.layout.size)


@pytest.mark.parametrize("request_", [request for request, _ in REQUESTS], ids=name)
def test_a_request_expects_a_reply_exactly_when_its_command_answers(request_):
    assert (request_.reply is not None) is SHAPES[request_.command].answers


@pytest.mark.parametrize(
    "message", [DeviceMemoryRequest(-1), DeviceMemoryRequest(1 << 32), AllocBufferRequest(0, 1 << 64)]
)
def test_a_number_that_does_not_fit_is_our_fault(message):
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        message.pack()


@pytest.mark.parametrize("size", [0, 23, 25])
def test_capabilities_are_never_padded_or_cut_silently(size):
    with pytest.raises(LocalProtocolError, match="24"):
        HelloRequest(bytes(size)).pack()


def test_a_refused_allocation_says_so():
    assert AllocBufferReply(0, 0).is_refused
    assert not AllocBufferReply(1, 0).is_refused


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_packing_and_unpacking_is_the_identity(device, size_bytes):
    message = AllocBufferRequest(device, size_bytes)
    assert AllocBufferRequest.unpack(message.pack()) == message
