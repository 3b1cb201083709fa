import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.link.budget import Budget
from rpc_wrapper.link.conversation import MAX_AWAITED, Conversation, Step
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.events import Refused
from rpc_wrapper.link.meter import Meter
from rpc_wrapper.link.weights import SET_TENSOR_OVERHEAD
from rpc_wrapper.rpc.commands import REPLY_HEADER, REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import (
    AllocBufferReply,
    AllocBufferRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    FreeBufferRequest,
    HelloReply,
    HelloRequest,
)

ENDPOINT = Endpoint("backend-cpu", 50052)
HELLO = HelloRequest().frame()
HELLO_REPLY = HelloReply(7, 0, 0).frame()


class Pair:
    """A conversation and the two ends of it, as a test sees them."""

    def __init__(self, budget_bytes: int | None = None, *, is_greeted: bool = True) -> None:
        self.budget = Budget(budget_bytes)
        self.meter = Meter()
        self.conversation = Conversation(ENDPOINT, 1, self.budget, self.meter, Deadlines(), 0.0)
        if is_greeted:
            self.ask(HELLO)
            self.answer(HELLO_REPLY)

    def ask(self, data: bytes, now: float = 0.0) -> Step:
        return self.conversation.from_engine(data, now)

    def answer(self, data: bytes, now: float = 0.0) -> Step:
        return self.conversation.from_backend(data, now)

    def allocate(self, size_bytes: int, remote_ptr: int = 1) -> None:
        assert self.ask(AllocBufferRequest(0, size_bytes).frame()).to_backend
        assert self.answer(AllocBufferReply(remote_ptr, size_bytes).frame()).error is None


def request(command: Command, payload: bytes = b"") -> bytes:
    return REQUEST_HEADER.pack(command, len(payload)) + payload


def reply(payload: bytes) -> bytes:
    return REPLY_HEADER.pack(len(payload)) + payload


def joined(chunks: Iterable[bytes | memoryview]) -> bytes:
    return b"".join(bytes(chunk) for chunk in chunks)


def hash_request(rows: int, stride: int, offset: int = 0, digest: int = 0) -> bytes:
    tensor = struct.pack("<QIQ4I4I", 0, 0, 0, 1, 1, 1, rows, 1, 1, 1, stride)
    return request(Command.SET_TENSOR_HASH, tensor.ljust(296, b"\0") + struct.pack("<QQ", offset, digest))


def test_hello_passes_without_capabilities():
    pair = Pair(is_greeted=False)
    assert joined(pair.ask(request(Command.HELLO, b"\x01" * 24)).to_backend) == HELLO
    assert joined(pair.answer(HELLO_REPLY).to_engine) == HELLO_REPLY


def test_hello_comes_first():
    step = Pair(is_greeted=False).ask(request(Command.DEVICE_COUNT))
    assert step.error == "the engine's side broke the protocol: DEVICE_COUNT came before HELLO"
    assert step.to_backend == []


def test_our_own_hello_stays_with_us():
    pair = Pair(is_greeted=False)
    assert pair.conversation.greet(0.0) == HELLO
    assert pair.answer(HELLO_REPLY) == Step()
    assert pair.ask(request(Command.DEVICE_COUNT)).error is None


@pytest.mark.parametrize(
    "data",
    [
        request(Command.GET_ALIGNMENT, b"12345"),
        REQUEST_HEADER.pack(18, 0),
        REQUEST_HEADER.pack(Command.GRAPH_COMPUTE, 1 << 40),
        REQUEST_HEADER.pack(Command.SET_TENSOR, SET_TENSOR_OVERHEAD + 1),
    ],
    ids=["wrong size", "unknown", "huge graph", "tensor without a buffer"],
)
def test_a_wrong_request_ends_it(data):
    assert Pair().ask(data).error


@pytest.mark.parametrize(
    ("asked", "data"),
    [(b"", reply(b"1234")), (request(Command.DEVICE_COUNT), reply(b"12345"))],
    ids=["unasked", "wrong size"],
)
def test_a_wrong_reply_ends_it(asked, data):
    pair = Pair()
    pair.ask(asked)
    assert (pair.answer(data).error or "").startswith("the backend broke the protocol")


def test_requests_that_pile_up_unanswered_end_it():
    pair = Pair()
    steps = [pair.ask(request(Command.DEVICE_COUNT)) for _ in range(MAX_AWAITED + 1)]
    assert [step.error is None for step in steps] == [True] * MAX_AWAITED + [False]


def test_several_answers_in_one_chunk_find_their_requests():
    pair = Pair(1000)
    ask = request(Command.DEVICE_COUNT) + DeviceMemoryRequest(0).frame() + request(Command.GET_ALIGNMENT, bytes(4))
    pair.ask(ask)
    answers = reply(bytes(4)) + DeviceMemoryReply(5000, 9000).frame() + reply(bytes(8))
    expected = reply(bytes(4)) + DeviceMemoryReply(1000, 1000).frame() + reply(bytes(8))
    assert joined(pair.answer(answers).to_engine) == expected


def test_a_buffer_beyond_the_budget_is_refused_without_the_backend():
    pair = Pair(100 * MIB)
    pair.allocate(60 * MIB)
    step = pair.ask(AllocBufferRequest(0, 50 * MIB).frame())
    assert step.to_backend == []
    assert joined(step.to_engine) == AllocBufferReply(0, 0).frame()
    assert step.events == [Refused(ENDPOINT, 0, 50 * MIB, 40 * MIB)]
    assert "10 MiB more" in str(step.events[0])


def test_a_freed_buffer_makes_room():
    pair = Pair(100)
    pair.allocate(60, remote_ptr=9)
    pair.ask(FreeBufferRequest(9).frame())
    pair.allocate(90)
    assert pair.budget.allocated_bytes == {0: 90}


def test_the_end_gives_back_buffers_and_reservations():
    pair = Pair(100)
    pair.allocate(50)
    pair.ask(AllocBufferRequest(0, 40).frame())
    pair.answer(AllocBufferReply(2, 40).frame()[:12])
    pair.conversation.close()
    pair.conversation.close()
    assert pair.budget.allocated_bytes == {}


def test_tensors_up_to_what_is_allocated_pass():
    pair = Pair()
    pair.allocate(1000)
    data = request(Command.SET_TENSOR, bytes(SET_TENSOR_OVERHEAD + 1000))
    assert joined(pair.ask(data).to_backend) == data


def test_the_wait_after_a_graph_is_the_stage_s():
    pair = Pair()
    pair.ask(request(Command.GRAPH_RECOMPUTE, bytes(4)), now=10.0)
    pair.ask(request(Command.GET_TENSOR, bytes(312)), now=10.1)
    pair.answer(reply(b"data"), now=10.6)
    snapshot = pair.meter.snapshot(11.0)
    assert snapshot.stages == 1
    assert snapshot.stage_waited_s == pytest.approx(0.6)
    assert snapshot.commands["GET_TENSOR"].waited_s == pytest.approx(0.5)


def test_weights_pushed_and_found_are_told_apart_from_inputs():
    pair = Pair()
    pair.allocate(1000)
    pair.ask(request(Command.SET_TENSOR, bytes(SET_TENSOR_OVERHEAD + 10)))  # too small for the cache
    pair.ask(hash_request(rows=5, stride=100))
    pair.answer(reply(b"\x01"))  # found
    pair.ask(hash_request(rows=3, stride=100))
    pair.answer(reply(b"\x00"))  # missed, so it is pushed
    pair.ask(request(Command.SET_TENSOR, bytes(SET_TENSOR_OVERHEAD + 300)))
    pair.ask(request(Command.GRAPH_COMPUTE, bytes(20)))
    pair.ask(request(Command.SET_TENSOR, bytes(SET_TENSOR_OVERHEAD + 77)))  # an input
    snapshot = pair.meter.snapshot(0.0)
    assert (snapshot.weights_pushed_bytes, snapshot.cacheable_pushed_bytes) == (310, 300)
    assert snapshot.weights_found_bytes == 500


def test_a_whole_tensor_s_hash_is_heard_before_the_worker_hears_it():
    heard: list[tuple[int, int]] = []
    pair = Pair()
    pair.conversation.weights.on_hash = lambda digest, size: heard.append((digest, size))
    pair.ask(hash_request(rows=5, stride=100, digest=0xABC))
    pair.ask(hash_request(rows=5, stride=100, offset=250, digest=0xDEF))
    assert heard == [(0xABC, 500)]


def test_silence_names_the_oldest_unanswered_command():
    pair = Pair()
    pair.ask(request(Command.GET_MAX_SIZE, bytes(4)), now=1.0)
    assert pair.conversation.overdue(0, 5.0) is None
    silence = pair.conversation.overdue(0, 12.0)
    assert silence is not None
    assert silence.command == "GET_MAX_SIZE"


def test_an_answer_that_stops_halfway_is_a_silence():
    pair = Pair()
    pair.ask(request(Command.GET_TENSOR, bytes(312)))
    pair.answer(reply(bytes(5000))[:100], now=1.0)
    silence = pair.conversation.overdue(0, 60.0)
    assert silence is not None
    assert silence.command == "GET_TENSOR"


CHUNKS = st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=30)


@given(CHUNKS)
def test_noise_from_either_side_never_raises(chunks):
    pair = Pair(1000)
    for is_engine, data in chunks:
        step = pair.ask(data) if is_engine else pair.answer(data)
        pair.conversation.overdue(0, 1.0)
        if step.error:
            break
    pair.conversation.close()
    assert pair.budget.allocated_bytes == {}


@given(st.lists(st.integers(1, 200), max_size=30))
def test_chunking_changes_nothing(cuts):
    data = (
        HELLO
        + request(Command.DEVICE_COUNT)
        + DeviceMemoryRequest(0).frame()
        + AllocBufferRequest(0, 10).frame()
        + FreeBufferRequest(3).frame()
        + request(Command.GRAPH_COMPUTE, bytes(50))
    )
    pair, passed, rest = Pair(is_greeted=False), [], data
    for cut in [*cuts, len(data)]:
        passed += pair.ask(rest[:cut]).to_backend
        rest = rest[cut:]
    assert joined(passed) == data
    assert pair.budget.allocated_bytes == {0: 10}
