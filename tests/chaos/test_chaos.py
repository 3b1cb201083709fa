"""A short run of what happens to clusters; the long one, of all of it, is scripts/chaos."""

from pathlib import Path

import pytest

from tests.chaos.cluster import Setting, cluster
from tests.chaos.experiment import Trial, experiment
from tests.chaos.faults import FaultKind, draw
from tests.chaos.load import PROMPTS, questions

N_BACKENDS = 3
CLIENTS = 6
SETTINGS = {"APP_EXACT": "true", "APP_SILENCE_S": "8", "APP_PARALLEL": str(CLIENTS)}
QUICK = [  # each costs seconds only; killing llama-server and killing a worker are parts of the last three
    FaultKind.SLOW_LINK,
    FaultKind.HALF_OPEN,
    FaultKind.PORT_REFUSED,
    FaultKind.WORKER_RESTARTED,
    FaultKind.KILL_AGENT,
    FaultKind.TWO_AT_ONCE,
    FaultKind.DURING_LOAD,
    FaultKind.DURING_PREFILL,
]


@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_no_fault_costs_a_request(chaos_seed: int, tmp_path: Path):
    faults = draw(QUICK, len(QUICK), N_BACKENDS, chaos_seed)
    trial = Trial(faults, chaos_seed, CLIENTS, questions(PROMPTS[:1]))
    async with cluster(Setting(tmp_path, n_backends=N_BACKENDS, environ=SETTINGS)) as running:
        figures = await experiment(running, trial)
    assert list(figures.broken(exact=True)) == []
    assert figures.unsteady == ()
    assert figures.resumed
    assert len(figures.strikes) == len(QUICK)
