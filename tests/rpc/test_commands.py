import pytest

from rpc_wrapper.errors import ProtocolError
from rpc_wrapper.rpc.commands import PINNED, SHAPES, Command, ProtocolVersion

# The worker's `switch` sends no reply in these cases (rpc_serve_client, ggml-rpc.cpp).
UNANSWERED = {
    Command.FREE_BUFFER,
    Command.BUFFER_CLEAR,
    Command.SET_TENSOR,
    Command.GRAPH_COMPUTE,
    Command.INIT_TENSOR,
    Command.GRAPH_RECOMPUTE,
    Command.MEMSET_TENSOR,
}


def test_commands_are_numbered_without_gaps_and_hello_is_14_for_ever():
    assert [int(command) for command in Command] == list(range(18))
    assert Command.HELLO.value == 14


def test_every_command_has_a_shape_and_exactly_seven_stay_unanswered():
    assert set(SHAPES) == set(Command)
    assert {command for command, shape in SHAPES.items() if not shape.answers} == UNANSWERED


@pytest.mark.parametrize(
    ("command", "size", "expected"),
    [
        (Command.HELLO, 24, True),
        (Command.HELLO, 0, False),
        (Command.DEVICE_COUNT, 0, True),
        (Command.DEVICE_COUNT, 1, False),
        (Command.GET_ALLOC_SIZE, 3260, True),
        (Command.SET_TENSOR, 303, False),
        (Command.SET_TENSOR, 1 << 40, True),
        (Command.GRAPH_COMPUTE, 11, False),
        (Command.GRAPH_COMPUTE, 1 << 40, False),
    ],
)
def test_a_request_of_the_wrong_size_is_not_accepted(command, size, expected):
    assert SHAPES[command].request.accepts(size) is expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [((7, 2, 0), True), ((7, 1, 9), True), ((7, 3, 0), False), ((6, 2, 0), False), ((8, 0, 0), False)],
)
def test_a_client_accepts_its_own_major_and_no_newer_minor(server, expected):
    assert ProtocolVersion(7, 2, 0).accepts(ProtocolVersion(*server)) is expected


def test_a_version_is_written_and_read_in_one_way():
    assert str(PINNED) == "7.0.0"
    assert ProtocolVersion.parse("v7.0.0") == ProtocolVersion.parse("7.0.0") == PINNED


@pytest.mark.parametrize("text", ["", "7", "7.0", "7.0.0.0", "7.0.x", "256.0.0", "-1.0.0"])
def test_anything_else_is_no_version(text):
    with pytest.raises(ProtocolError, match=r"write it like 7\.0\.0"):
        ProtocolVersion.parse(text)
