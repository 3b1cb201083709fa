import pytest

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.link.deadline import Deadlines, Watch
from rpc_wrapper.rpc.commands import Command

LIMITS = Deadlines(reply_s=10, bulk_s=120, graph_s=30, graph_s_per_mib=60, first_graph_s=300)
ENDPOINT = Endpoint("backend-cpu", 50052)


def watch(*, warm: bool = True) -> Watch:
    made = Watch(ENDPOINT, LIMITS, 0.0)
    if warm:
        made.requested(Command.GRAPH_COMPUTE, 1000)
        made.answered(0.0)
    return made


def patience_s(tested: Watch, awaited: Command | None, unsent_bytes: int = 0) -> float:
    """Return how long a silence lasts before it is told, to a tenth of a second."""
    tested.overdue(awaited, unsent_bytes, 0.0)
    for tenth in range(10_000):
        silence = tested.overdue(awaited, unsent_bytes, tenth / 10)
        if silence is not None:
            return silence.deadline_s
    raise AssertionError("it is never told")


@pytest.mark.parametrize(
    ("work", "awaited", "deadline_s"),
    [
        ([], Command.HELLO, 10),
        ([], Command.ALLOC_BUFFER, 120),
        ([(Command.BUFFER_CLEAR, 9)], Command.GET_TENSOR, 120),
        ([(Command.GRAPH_RECOMPUTE, 4)], Command.GET_TENSOR, 30),
        ([(Command.SET_TENSOR, 2 * MIB), (Command.GRAPH_COMPUTE, 99)], Command.GET_TENSOR, 150),
        ([(Command.GRAPH_RECOMPUTE, 4)] * 3, Command.GET_TENSOR, 90),
    ],
)
def test_the_deadline_grows_with_the_work(work, awaited, deadline_s):
    tested = watch()
    for command, size in work:
        tested.requested(command, size)
    tested.requested(awaited, 0)
    tested.asked(0.0)
    assert patience_s(tested, awaited) == deadline_s


def test_the_first_graph_of_a_connection_may_take_longer():
    tested = watch(warm=False)
    tested.requested(Command.GRAPH_COMPUTE, 1000)
    assert patience_s(tested, Command.GET_TENSOR) == 300


def test_a_backend_that_owes_nothing_is_never_silent():
    tested = watch()
    tested.requested(Command.SET_TENSOR, 100)
    assert tested.overdue(None, 0, 1e6) is None


def computing(tested: Watch, *, input_bytes: int, began: float, took_s: float) -> None:
    """Let the backend compute one graph over so much input."""
    tested.requested(Command.SET_TENSOR, input_bytes)
    tested.requested(Command.GRAPH_COMPUTE, 1000)
    tested.requested(Command.GET_TENSOR, 300)
    tested.asked(began)
    tested.moved(began + took_s)
    tested.answered(began + took_s)


def prompt_patience_s(tested: Watch) -> float:
    """Return how long it may be silent over 2 MiB of a prompt's input."""
    tested.requested(Command.SET_TENSOR, 2 * MIB)
    tested.requested(Command.GRAPH_COMPUTE, 1000)
    tested.asked(0.0)
    return patience_s(tested, Command.GET_TENSOR)


@pytest.mark.parametrize(("took_s", "deadline_s"), [(0.01, 30 + 8 * 0.01 * 32), (0.2, 30 + 8 * 0.2 * 32)])
def test_a_long_prompt_gets_eight_times_what_the_tokens_before_took(took_s, deadline_s):
    tested = watch()
    for second in range(100):
        computing(tested, input_bytes=MIB // 16, began=float(second), took_s=took_s)
    assert prompt_patience_s(tested) == pytest.approx(deadline_s, rel=0.01)


def test_a_slow_pace_never_grants_more_than_an_unknown_one():
    tested = watch()
    computing(tested, input_bytes=1000, began=0.0, took_s=5.0)
    assert prompt_patience_s(tested) == 30 + 2 * 60


def test_one_late_answer_is_forgotten_by_and_by():
    tested = watch()
    computing(tested, input_bytes=MIB // 16, began=0.0, took_s=20.0)
    for second in range(100):
        computing(tested, input_bytes=MIB // 16, began=float(second), took_s=0.01)
    assert prompt_patience_s(tested) < 33


def test_what_the_first_graph_took_says_nothing_of_the_next():
    tested = watch(warm=False)
    computing(tested, input_bytes=MIB, began=0.0, took_s=200.0)
    computing(tested, input_bytes=MIB, began=300.0, took_s=0.01)
    assert prompt_patience_s(tested) < 31


@pytest.mark.parametrize(("warm", "deadline_s"), [(False, 120), (True, 30)])
def test_bytes_that_are_not_taken_are_a_silence_too(warm, deadline_s):
    tested = watch(warm=warm)
    tested.requested(Command.SET_TENSOR, 100 * MIB)
    assert patience_s(tested, None, unsent_bytes=5000) == deadline_s


def test_every_moved_byte_starts_the_wait_again():
    tested = watch()
    tested.requested(Command.SET_TENSOR, 100 * MIB)
    for second in range(0, 1000, 100):
        assert tested.overdue(None, 5000 - second, float(second)) is None
    tested.moved(1000.0)
    assert tested.overdue(Command.GET_TENSOR, 4100, 1005.0) is None


def test_one_silence_is_told_once_and_names_backend_command_and_wait():
    tested = watch()
    tested.requested(Command.GET_ALIGNMENT, 4)
    tested.asked(5.0)
    silence = tested.overdue(Command.GET_ALIGNMENT, 0, 15.5)
    assert silence is not None
    assert str(silence).startswith("backend-cpu:50052 has been silent for 10.5 s on GET_ALIGNMENT")
    assert tested.overdue(Command.GET_ALIGNMENT, 0, 99.0) is None
    tested.moved(100.0)
    assert tested.overdue(Command.GET_ALIGNMENT, 0, 111.0) is not None


def test_the_longest_deadline_bounds_the_kernel_s_timeout():
    assert LIMITS.longest_s == 300
