"""What typed lines mean, and what is remembered."""

import pytest

from rpc_wrapper.talk.answer import Times
from rpc_wrapper.talk.session import Do, Session, understand

PRESETS = ("first?", "second?")


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("Who?", (Do.ASK, "Who?")),
        (" 2 ", (Do.ASK, "second?")),
        ("3", (Do.ASK, "3")),
        ("0", (Do.ASK, "0")),
        ("", (Do.NOTHING, "")),
        ("quit", (Do.LEAVE, "")),
        ("EXIT", (Do.LEAVE, "")),
        ("退出", (Do.LEAVE, "")),
        ("/quit", (Do.LEAVE, "")),
        ("/stats", (Do.STATS, "")),
        ("/reset", (Do.RESET, "")),
        ("/all", (Do.ALL, "")),
        ("/help", (Do.HELP, "")),
        ("/nothing", (Do.UNKNOWN, "/nothing")),
    ],
)
def test_a_line_has_a_meaning(line, meaning):
    assert understand(line, PRESETS) == meaning


def test_a_question_goes_with_all_that_was_said_before():
    session = Session(system="Be brief.")
    session.answered("Who?", "Me.", Times(0, 1, 1))
    assert session.asking("Why?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Me."},
        {"role": "user", "content": "Why?"},
    ]


def test_forgetting_keeps_the_times():
    session = Session()
    session.answered("Who?", "Me.", Times(0, 1, 1))
    session.reset()
    assert session.asking("Why?") == [{"role": "user", "content": "Why?"}]
    assert session.times == [Times(0, 1, 1)]
