"""A short run of everything that happens to clusters; the long one is scripts/chaos."""

import socket
from pathlib import Path
from random import Random

import pytest

from tests.chaos.cluster import FaultKind, demo
from tests.chaos.experiment import experiment

MODEL = Path(__file__).parent.parent.parent / "models" / "demo.gguf"
SEED = 1


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_no_fault_costs_a_request():
    kinds = [FaultKind.KILL_SERVER, FaultKind.KILL_WORKER, FaultKind.BLIP_WORKER]
    Random(SEED).shuffle(kinds)
    async with demo(MODEL, free_port(), ["-fa", "off"]) as cluster:
        account = await experiment(cluster, kinds, SEED)
    assert [answer.error for answer in account.lost] == []
    assert [(answer.question, answer.text) for answer in account.different] == []
    assert account.resumed
    assert account.leaked_entries == 0
    assert not any(strike.evicted for strike in account.strikes if strike.kind is FaultKind.BLIP_WORKER)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
