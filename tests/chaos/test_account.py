"""The account of a chaos run names every promise that was not kept."""

import json

import pytest

from tests.chaos.account import Account
from tests.chaos.faults import Fault, FaultKind, draw
from tests.chaos.figures import Figures, Strike, recoveries
from tests.chaos.load import Answer, Question, greedy, questions, take
from tests.chaos.near_ties import Parting, gap_at
from tests.chaos.timeline import Timeline

ASKED = greedy("/completion", "Once", 8, stream=True)
QUICK = Timeline(0.1, 0.2, 0.3, 0.4, (1.5, 2.5))


def answer(*lines: str, asked: Question = ASKED) -> Answer:
    """Return what a client makes of these lines."""
    found = Answer(asked, is_over=True)
    for moment, line in enumerate(lines):
        take(found, line, float(moment))
    return found


def event(**value: object) -> str:
    return f"data: {json.dumps(value)}"


PART = event(content="a", stop=False)
LAST = event(content="", stop=True)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((PART,), "silent end"),
        ((PART, LAST, LAST), "it ended 2 times"),
        ((PART, LAST, PART), "it went on after its end"),
        ((PART, event(error={"code": 503})), '{"code": 503}'),
    ],
)
def test_a_request_that_did_not_end_once_is_lost(lines: tuple[str, ...], why: str):
    lost = answer(*lines)
    account = Account(answers=[lost, answer(PART, LAST)])
    assert account.lost == [lost]
    assert lost.why == why
    assert [line.startswith("lost: /completion") for line in account.figures().broken(exact=False)] == [True]


def test_a_client_that_left_lost_nothing():
    left = answer(PART)
    left.has_left = True
    assert Account(answers=[left]).lost == []


def test_a_resumed_answer_knows_where_it_was_cut():
    resumed = answer(PART, PART, ": resumed 1", PART, LAST)
    assert (resumed.text, resumed.resumed, resumed.resumed_behind) == ("aaa", 1, [2])
    assert Parting(resumed, 2, 0.01).is_behind_a_cut
    assert not Parting(resumed, 1, 0.01).is_behind_a_cut


def test_a_difference_breaks_a_promise_in_exact_mode_only():
    account = Account(partings=[Parting(answer(PART, LAST), 0, 0.5)])
    assert list(account.figures().broken(exact=False)) == []
    assert len(list(account.figures().broken(exact=True))) == 1


def test_what_is_left_behind_and_who_was_fenced_for_nothing_is_named():
    strike = Strike(Fault(FaultKind.BLIP_WORKER, 0, 0.0), QUICK)
    account = Account(strikes=[strike], journal_entries=2, fds={"server": (20, 30), "backend-0": (10, 11)})
    told = "\n".join(account.figures().broken(exact=True))
    assert "fenced for nothing: SIGSTOP worker, CONT after 5 s" in told
    assert "server holds 30" in told
    assert "2 journal entries" in told
    assert "backend-0" not in told


def test_the_table_has_median_and_worst():
    slow = Timeline(1.1, 0.2, 0.3, 0.4, (3.5,))
    strikes = [Strike(Fault(FaultKind.KILL_WORKER, 0, 0.0), line) for line in (QUICK, slow, None)]
    row = list(recoveries(strikes))[-1]
    assert row == (
        "| kill -9 worker | 3 | 2 | 0.60 / 1.10 | 0.20 / 0.20 | 0.30 / 0.30 | 0.40 / 0.40 | 2.50 / 3.50 | 3.00 / 3.50 |"
    )


def test_figures_outlive_being_written_down_and_add_up():
    pair = Fault(FaultKind.TWO_AT_ONCE, 1, 0.5, (Fault(FaultKind.KILL_WORKER, 1, 0.0),))
    one = Figures((Strike(pair, QUICK), Strike(pair, None, (1.0,))), requests=3, lost=("x",), cold_starts_s=(0.5,))
    assert Figures.from_json(json.loads(json.dumps(one.to_json()))) == one
    both = one + one
    assert (len(both.strikes), both.requests, both.lost, both.cold_starts_s) == (4, 6, ("x", "x"), (0.5, 0.5))


def test_what_stood_still_without_a_recovery_is_in_the_table_too():
    strike = Strike(Fault(FaultKind.BLIP_WORKER, 0, 0.0), None, (5.0, 5.5))
    assert list(recoveries([strike]))[-1].endswith("| 1 | 0 | – | – | – | – | 5.00 / 5.00 | 5.50 / 5.50 |")
    assert str(strike) == "nobody was fenced, the longest pause of a stream was 5.50 s"


def test_the_gap_is_that_of_the_token_that_holds_the_character():
    def token(text: str, first: float, second: float) -> dict[str, object]:
        return {"bytes": list(text.encode()), "top_logprobs": [{"logprob": first}, {"logprob": second}]}

    tokens = [token("ab", -0.1, -3.1), token("ç", -0.7, -0.75)]
    assert gap_at(tokens, 1) == pytest.approx(3.0)
    assert gap_at(tokens, 2) == pytest.approx(0.05)
    assert gap_at(tokens, 3) is None


def test_faults_come_from_their_seed_and_each_kind_as_often():
    kinds = list(FaultKind)
    drawn = draw(kinds, 3 * len(kinds), 3, seed=4)
    assert drawn == draw(kinds, 3 * len(kinds), 3, seed=4)
    assert drawn != draw(kinds, 3 * len(kinds), 3, seed=5)
    assert sorted(fault.kind for fault in drawn) == sorted(3 * kinds)
    assert all(len(fault.also) == 2 * (fault.kind is FaultKind.TWO_AT_ONCE) for fault in drawn)


def test_every_endpoint_is_asked_for_every_length():
    streamed = {(one.path, one.value["max_tokens"]) for one in questions() if one.value.get("stream")}
    paths = ("/completion", "/v1/completions", "/v1/chat/completions", "/v1/messages")
    assert {(path, count) for path in paths for count in (24, 60, 120, 240)} <= streamed
