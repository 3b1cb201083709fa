"""What every test shares: engines that survive a busy machine, and a chaos run's seed."""

import os

import pytest

# Where other work keeps every core busy, the threads of one engine may share a core, and each of its barriers then
# spins a time slice away (libgomp, 300,000 turns): see BENCHMARKS.md. With fewer turns it sleeps sooner.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", type=int, default=1, help="seed of the faults and of the clients")


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """Return the seed given on the command line."""
    return int(request.config.getoption("--chaos-seed"))
