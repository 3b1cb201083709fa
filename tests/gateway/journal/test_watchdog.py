"""Silence, against the work that is waited for."""

import pytest

from rpc_wrapper.gateway.journal.config import WatchConfig
from rpc_wrapper.gateway.journal.ending import Phase
from rpc_wrapper.gateway.journal.watchdog import Silence, Watchdog

CONFIG = WatchConfig(prefill_floor_s=10, decode_floor_s=5, slack=4, assumed_prefill_tps=20, assumed_decode_tps=2)
PREFILL_S = 10 + 4 * (100 / 20 + 1 / 2)


def watching(n_prompt: int = 100) -> Watchdog:
    watchdog = Watchdog(CONFIG)
    watchdog.begin(1, "r1", n_prompt, now=0.0)
    return watchdog


def test_nobody_waits_for_an_idle_engine():
    watchdog = Watchdog(CONFIG)
    assert watchdog.due_at() is None
    assert watchdog.silence(1e9) is None


def test_a_prompt_gets_the_time_that_it_takes():
    assert watching().due_at() == PREFILL_S
    assert watching().silence(PREFILL_S - 0.1) is None
    assert watching().silence(PREFILL_S) == Silence("r1", Phase.PREFILL, PREFILL_S, PREFILL_S)


def test_prompts_that_wait_for_each_other_add_up():
    watchdog = watching()
    watchdog.begin(2, "r2", 100, now=0.0)
    assert watchdog.due_at() == 10 + 4 * (200 / 20 + 1 / 2)


def test_progress_of_the_prompt_moves_the_deadline_and_measures():
    watchdog = watching()
    watchdog.prompt_read(1, processed=0, total=80, now=1.0)
    assert watchdog.speeds.prefill_tps is None
    watchdog.prompt_read(1, processed=40, total=80, now=2.0)
    assert watchdog.speeds.prefill_tps == 40
    assert watchdog.due_at() == 2 + 10 + 4 * (40 / 40 + 1 / 2)


def test_decode_is_given_a_step_and_its_floor():
    watchdog = watching()
    watchdog.tokens_came(1, 1, now=1.0)
    assert watchdog.due_at() == 1 + 5 + 4 / 2
    watchdog.tokens_came(1, 1, now=1.1)
    assert watchdog.speeds.decode_tps == pytest.approx(10)
    assert watchdog.due_at() == pytest.approx(1.1 + 5 + 4 / 10)
    silence = watchdog.silence(7.0)
    assert silence is not None
    assert silence.phase is Phase.DECODE


def test_the_life_of_one_stream_is_the_life_of_all():
    watchdog = watching(n_prompt=0)
    watchdog.begin(2, "r2", 0, now=0.0)
    watchdog.tokens_came(2, 1, now=6.0)
    assert watchdog.silence(10.0) is None
    silence = watchdog.silence(20.0)
    assert silence is not None
    assert silence.request_id == "r1"


def test_a_silence_is_reported_once():
    watchdog = watching()
    assert watchdog.silence(100.0) is not None
    assert watchdog.silence(200.0) is None
    assert watchdog.due_at() is None
    watchdog.tokens_came(1, 1, now=300.0)
    assert watchdog.silence(400.0) is not None


def test_whoever_is_gone_is_not_waited_for():
    watchdog = watching()
    watchdog.end(1)
    watchdog.end(1)
    watchdog.tokens_came(1, 1, now=5.0)
    watchdog.prompt_read(1, 5, 10, now=5.0)
    assert watchdog.due_at() is None


def test_the_pause_before_a_request_is_no_silence():
    watchdog = watching()
    watchdog.end(1)
    watchdog.begin(2, "r2", 0, now=1000.0)
    assert watchdog.silence(1001.0) is None
