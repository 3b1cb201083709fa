"""The verdict on a run of llama-bench."""

import pytest

from rpc_wrapper.engine.loadlog import Failure
from rpc_wrapper.engine.selftest import compute_here, judge

GOOD = '[{"n_prompt": 32, "avg_ts": 812.5}, {"n_gen": 4, "avg_ts": 99.25}]'


def test_speed_of_the_last_measurement_is_told():
    verdict = judge(0, GOOD, "", 1.0)
    assert (verdict.failure, verdict.tokens_per_s) == (None, 99.25)


@pytest.mark.parametrize(
    ("returncode", "stderr", "failure", "says"),
    [
        (-4, "", Failure.ILLEGAL_INSTRUCTION, "--no-repack"),
        (132, "Illegal instruction", Failure.ILLEGAL_INSTRUCTION, "GGML_NATIVE=OFF"),
        (1, "llama_model_load: error loading model: x", Failure.BAD_MODEL, "APP_MODEL"),
        (0, "", Failure.UNKNOWN, "no output"),
    ],
)
def test_a_failure_says_what_to_do(returncode, stderr, failure, says):
    verdict = judge(returncode, "", stderr, 1.0)
    assert verdict.failure is failure
    assert says in verdict.detail


def test_a_missing_program_is_a_verdict_too(tmp_path):
    verdict = compute_here(tmp_path / "llama-bench", tmp_path / "model", 1)
    assert verdict.failure is Failure.UNKNOWN
    assert "does not start" in verdict.detail
