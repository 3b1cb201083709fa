"""Measured speeds."""

from rpc_wrapper.gateway.journal.speeds import Speeds


def test_the_first_measurement_counts_whole_and_later_ones_mix_in():
    speeds = Speeds()
    assert speeds.decode_tps is None
    speeds.note_decode(10, 1.0)
    assert speeds.decode_tps == 10
    speeds.note_decode(20, 1.0)
    assert speeds.decode_tps == 13
    speeds.note_prefill(500, 2.0)
    assert speeds.prefill_tps == 250


def test_what_took_no_time_measures_nothing():
    speeds = Speeds()
    speeds.note_decode(1, 0.0)
    speeds.note_prefill(0, 1.0)
    assert (speeds.prefill_tps, speeds.decode_tps) == (None, None)
