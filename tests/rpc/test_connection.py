import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.errors import LocalProtocolError, RemoteProtocolError
from rpc_wrapper.rpc.commands import Command
from rpc_wrapper.rpc.connection import NEED_DATA, Connection, ConnectionClosed, Event, NeedData
from rpc_wrapper.rpc.messages import (
    DeviceCountReply,
    DeviceCountRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    FreeBufferRequest,
    HelloReply,
    HelloRequest,
    OldHelloRequest,
    Request,
)
from tests.rpc.test_messages import REPLIES, name

HELLO = HelloReply(7, 0, 0).frame()


def connection_awaiting(*requests: Request) -> Connection:
    """Return a connection past HELLO that has sent ``requests``."""
    connection = Connection()
    connection.send(HelloRequest())
    connection.receive_data(HELLO)
    assert connection.next_event() == HelloReply(7, 0, 0)
    for request in requests:
        connection.send(request)
    return connection


def just_sent(request: Request) -> Connection:
    """Return a connection that awaits only the reply to ``request``."""
    if request.command is not Command.HELLO:
        return connection_awaiting(request)
    connection = Connection()
    connection.send(request)
    return connection


@pytest.mark.parametrize(("reply", "request_", "frame"), REPLIES, ids=name)
class TestEveryReply:
    def test_whole(self, reply, request_, frame):
        connection = just_sent(request_)
        connection.receive_data(frame)
        assert connection.next_event() == reply
        assert connection.next_event() is NEED_DATA
        assert connection.is_idle

    def test_byte_by_byte(self, reply, request_, frame):
        connection = just_sent(request_)
        for index in range(len(frame)):
            assert connection.next_event() is NEED_DATA
            connection.receive_data(frame[index : index + 1])
        assert connection.next_event() == reply

    def test_with_trailing_garbage(self, reply, request_, frame):
        connection = just_sent(request_)
        connection.receive_data(frame + b"x")
        assert connection.next_event() == reply
        with pytest.raises(RemoteProtocolError, match="nobody asked for"):
            connection.next_event()

    @pytest.mark.parametrize("wrong", [-1, +1, 1 << 62])
    def test_with_a_wrong_size_is_refused_before_its_body(self, reply, request_, frame, wrong):
        connection = just_sent(request_)
        connection.receive_data((len(frame) - 8 + wrong).to_bytes(8, "little"))
        with pytest.raises(RemoteProtocolError, match="announces"):
            connection.next_event()

    def test_cut_short_by_the_end(self, reply, request_, frame):
        connection = just_sent(request_)
        connection.receive_data(frame[:-1])
        connection.receive_data(b"")
        with pytest.raises(RemoteProtocolError, match=f"closed {len(frame) - 1} bytes into"):
            connection.next_event()

    def test_never_begun_before_the_end(self, reply, request_, frame):
        connection = just_sent(request_)
        connection.receive_data(b"")
        assert connection.next_event() == ConnectionClosed(request_.command)


def test_replies_are_matched_to_requests_by_order():
    connection = connection_awaiting(DeviceCountRequest(), DeviceMemoryRequest(0))
    connection.receive_data(DeviceCountReply(1).frame() + DeviceMemoryReply(5, 6).frame())
    assert connection.next_event() == DeviceCountReply(1)
    assert connection.next_event() == DeviceMemoryReply(5, 6)


def test_a_command_without_reply_awaits_nothing():
    connection = connection_awaiting(FreeBufferRequest(1))
    assert connection.is_idle
    assert connection.next_event() is NEED_DATA


def test_an_orderly_end_between_replies_is_an_event_not_an_error():
    connection = connection_awaiting()
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed(None)
    assert connection.next_event() == ConnectionClosed(None)


def test_a_web_server_is_recognised_by_its_answer():
    connection = just_sent(HelloRequest())
    connection.receive_data(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="web server"):
        connection.next_event()


def test_after_an_error_nothing_works_any_more_and_nothing_is_kept():
    connection = connection_awaiting(DeviceCountRequest())
    connection.receive_data(bytes(8))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            connection.next_event()
    connection.receive_data(DeviceCountReply(1).frame())
    assert connection.buffered_bytes == 0
    with pytest.raises(LocalProtocolError, match="open another"):
        connection.send(DeviceCountRequest())


def test_hello_comes_first():
    with pytest.raises(LocalProtocolError, match="HELLO comes first"):
        Connection().send(DeviceCountRequest())


@pytest.mark.parametrize("again", [HelloRequest(), OldHelloRequest()])
def test_hello_comes_once(again):
    with pytest.raises(LocalProtocolError, match="and once"):
        connection_awaiting().send(again)


def test_a_request_that_cannot_be_packed_leaves_the_connection_as_it_was():
    connection = connection_awaiting()
    with pytest.raises(LocalProtocolError):
        connection.send(DeviceMemoryRequest(-1))
    assert connection.is_idle
    connection.send(DeviceMemoryRequest(0))


def test_no_request_after_the_peer_closed():
    connection = connection_awaiting()
    connection.receive_data(b"")
    with pytest.raises(LocalProtocolError, match="after the peer closed"):
        connection.send(DeviceCountRequest())


def test_no_data_after_its_end():
    connection = connection_awaiting()
    connection.receive_data(b"")
    with pytest.raises(LocalProtocolError, match="after its end"):
        connection.receive_data(b"x")


def test_garbage_before_a_request_is_not_taken_for_its_reply():
    connection = connection_awaiting()
    connection.receive_data(DeviceCountReply(9).frame())
    with pytest.raises(RemoteProtocolError, match="nobody asked for"):
        connection.send(DeviceCountRequest())


def test_repr_tells_the_state_in_one_line():
    assert (
        repr(connection_awaiting(DeviceCountRequest()))
        == "<Connection OPEN, awaiting [DEVICE_COUNT], 0 bytes buffered>"
    )


def drain(connection: Connection) -> list[Event]:
    events: list[Event] = []
    try:
        while not isinstance(event := connection.next_event(), NeedData | ConnectionClosed):
            events.append(event)
    except RemoteProtocolError:
        pass
    return events


GARBAGE = st.lists(st.binary(max_size=64), max_size=12)
FRAMES = st.lists(st.sampled_from([DeviceCountReply(1).frame(), DeviceMemoryReply(1, 2).frame(), b"\x04" + bytes(7)]))
PIPELINE = st.lists(st.sampled_from([DeviceCountRequest(), DeviceMemoryRequest(0), FreeBufferRequest(1)]), max_size=5)


@given(PIPELINE, GARBAGE | FRAMES, st.booleans())
def test_no_bytes_in_no_chunking_crash_it_or_make_it_keep_more_than_its_limit(requests, chunks, reads_between):
    connection = connection_awaiting(*requests)
    for chunk in filter(None, chunks):
        connection.receive_data(chunk)
        assert connection.buffered_bytes <= connection.limit_bytes
        if reads_between:
            drain(connection)
    connection.receive_data(b"")
    drain(connection)


@given(st.data())
def test_chunking_never_changes_what_was_said(data):
    replies = data.draw(st.lists(st.builds(DeviceMemoryReply, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
    connection = connection_awaiting(*[DeviceMemoryRequest(index) for index in range(len(replies))])
    stream = b"".join(reply.frame() for reply in replies)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(stream) - 1, 1)))))
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if stream[start:end]:
            connection.receive_data(stream[start:end])
        events += drain(connection)
    assert events == replies
