import json

import pytest

from rpc_wrapper.link.meter import WINDOW_S, Meter, Window
from rpc_wrapper.rpc.commands import Command


def test_a_window_forgets_what_is_older_than_ten_seconds():
    window = Window(2)
    window.add(0, 5, 100.2)
    window.add(0, 7, 100.9)
    window.add(1, 1, 105.0)
    assert window.totals(105.0) == [12, 1]
    assert window.totals(100.0 + WINDOW_S) == [0, 1]


def test_a_window_stays_small():
    window = Window(1)
    for second in range(10_000):
        window.add(0, 1, float(second))
    assert window.totals(9_999.0) == [WINDOW_S]


def test_commands_are_counted_with_their_bytes_and_waits():
    meter = Meter()
    meter.requested(Command.GET_TENSOR, 312)
    meter.requested(Command.GET_TENSOR, 312)
    meter.answered(Command.GET_TENSOR, 0.25)
    totals = meter.snapshot(0.0).commands
    assert list(totals) == ["GET_TENSOR"]
    assert (totals["GET_TENSOR"].count, totals["GET_TENSOR"].size_bytes) == (2, 624)
    assert totals["GET_TENSOR"].waited_s == 0.25


def test_stages_have_a_recent_mean():
    meter = Meter()
    meter.computed(9.0, 0.0)
    meter.computed(0.1, 50.0)
    meter.computed(0.3, 51.0)
    snapshot = meter.snapshot(52.0)
    assert (snapshot.stages, snapshot.recent_stages) == (3, 2)
    assert snapshot.recent_stage_s == pytest.approx(0.2)
    assert meter.snapshot(100.0).recent_stage_s is None


def test_the_round_trip_follows_its_samples():
    meter = Meter()
    assert meter.snapshot(0.0).rtt_s is None
    meter.round_trip(0.010)
    assert meter.snapshot(0.0).rtt_s == 0.010
    for _ in range(100):
        meter.round_trip(0.020)
    assert meter.snapshot(0.0).rtt_s == pytest.approx(0.020, rel=0.01)


def test_a_snapshot_is_json():
    meter = Meter()
    meter.moved(1000, 0, 1.0)
    meter.moved(0, 500, 1.0)
    meter.pushed(100, is_cacheable=True)
    meter.pushed(30, is_cacheable=False)
    meter.found(70)
    plain = json.loads(json.dumps(meter.snapshot(2.0, {0: 5, 1: 6}).to_json()))
    assert plain["allocated_bytes"] == {"0": 5, "1": 6}
    assert (plain["weights_pushed_bytes"], plain["cacheable_pushed_bytes"], plain["weights_found_bytes"]) == (
        130,
        100,
        70,
    )
    assert plain["bytes_to_backend_per_s"] == 1000 / WINDOW_S
