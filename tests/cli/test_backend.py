"""What a backend says before it starts."""

import pytest

from rpc_wrapper.cli.backend import memory_shortage
from rpc_wrapper.devices import MIB


@pytest.mark.parametrize(("mem_mib", "limit_mib"), [(1024, 1280), (1, 257), (2048, 65536)])
def test_a_limit_with_room_for_the_programs_is_fine(mem_mib: int, limit_mib: int) -> None:
    assert memory_shortage(mem_mib, limit_mib * MIB) is None


def test_a_limit_that_is_too_small_is_told_with_both_numbers_and_both_ways_out() -> None:
    told = memory_shortage(1024, 1280 * MIB - 1)
    assert told is not None
    for words in ("APP_MEM=1024", "may use 1279 MiB", "at least 1280 MiB", "at most 1023"):
        assert words in told


def test_a_budget_that_no_worker_could_have_is_not_proposed() -> None:
    told = memory_shortage(1024, 256 * MIB)
    assert told is not None
    assert "at most" not in told
