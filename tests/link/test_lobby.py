import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.lobby import Lobby, WorkerFacts
from rpc_wrapper.rpc.commands import PINNED, REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import (
    DeviceCountReply,
    DeviceCountRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    HelloReply,
    HelloRequest,
)

FACTS = WorkerFacts(PINNED, 2, lambda device: DeviceMemoryReply(10 * device, 20 * device))
HELLO = HelloRequest().frame()


def test_the_three_questions_are_answered():
    visit = Lobby(FACTS).receive(HELLO + DeviceCountRequest().frame() + DeviceMemoryRequest(1).frame())
    expected = HelloReply(*PINNED).frame() + DeviceCountReply(2).frame() + DeviceMemoryReply(10, 20).frame()
    assert (visit.answers, visit.opening, visit.error) == (expected, b"", "")


def test_the_first_command_for_the_worker_opens():
    opening = REQUEST_HEADER.pack(Command.GET_ALIGNMENT, 4) + b"\0\0"
    lobby = Lobby(FACTS)
    assert lobby.receive(HELLO + opening[:5]).opening == b""
    assert lobby.receive(opening[5:]).opening == b""  # half of a command may be all that ever comes
    assert lobby.receive(b"\0\0more").opening == opening + b"\0\0more"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n", "no command 71"),
        (REQUEST_HEADER.pack(Command.HELLO, 0), "HELLO cannot have 0 bytes"),
        (DeviceCountRequest().frame(), "before HELLO"),
        (REQUEST_HEADER.pack(Command.GRAPH_COMPUTE, 20), "before HELLO"),
        (HELLO + DeviceMemoryRequest(2).frame(), "beyond the 2 there are"),
        (HELLO + REQUEST_HEADER.pack(Command.ALLOC_BUFFER, 1 << 60), "ALLOC_BUFFER cannot have"),
        (HELLO + REQUEST_HEADER.pack(Command.SET_TENSOR, 1 << 30), "before it had a buffer"),
    ],
)
def test_what_is_wrong_is_said(data, error):
    assert error in Lobby(FACTS).receive(data).error


@given(st.booleans(), st.lists(st.binary(max_size=50), max_size=30))
def test_noise_is_an_error_or_waited_for(is_greeted, chunks):
    lobby = Lobby(FACTS)
    lobby.receive(HELLO if is_greeted else b"")
    for chunk in chunks:
        visit = lobby.receive(chunk)
        if visit.error or visit.opening:
            break
        assert len(lobby._buffer) < REQUEST_HEADER.size + 4096


@given(st.lists(st.integers(1, 30)))
def test_any_chunking_gives_the_same_answers(cuts):
    data = HELLO + DeviceCountRequest().frame() + DeviceMemoryRequest(0).frame()
    whole = Lobby(FACTS).receive(data).answers
    lobby, answers = Lobby(FACTS), b""
    for cut in [*cuts, len(data)]:
        answers += lobby.receive(data[:cut]).answers
        data = data[cut:]
    assert answers == whole
