"""The honest end."""

import pytest

from rpc_wrapper.gateway.errors import envelope
from rpc_wrapper.gateway.journal.ending import Phase, ended
from rpc_wrapper.gateway.journal.entry import Asked, Delivered, Entry
from rpc_wrapper.gateway.journal.reading import Dialect


def entry_of(n_tokens: int) -> Entry:
    delivered = Delivered(n_texts=n_tokens)
    return Entry("r1", Asked(Dialect.CHAT, b""), delivered, losses=5, attempts=3)


@pytest.mark.parametrize(
    ("phase", "n_tokens", "missing", "status", "advice"),
    [
        (Phase.LOAD, 7, ["b:1"], 503, "bring b:1 back"),
        (Phase.LOAD, 0, [], 503, "GET /cluster"),
        (Phase.DECODE, 7, [], 502, "from the 7 tokens you have"),
        (Phase.PREFILL, 0, [], 502, "send the request again"),
    ],
)
def test_an_end_says_who_what_how_much_and_what_next(phase, n_tokens, missing, status, advice):
    end = ended(entry_of(n_tokens), phase, "Reason.", {"missing": missing, "state": "preparing"})
    error = envelope(end.problem)["error"]
    assert end.problem.status == status
    assert (end.problem.retry_after_s is not None) is (phase is Phase.LOAD)
    assert error["backend"] == (missing[0] if missing else None)
    assert (error["phase"], error["tokens_delivered"], error["attempts"]) == (phase, n_tokens, 3)
    assert advice in error["advice"]
    assert error["message"].endswith("cannot go on: Reason.")
