"""The seed of a chaos run, so that one that failed can be had again."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", type=int, default=1, help="seed of the faults and of the clients")


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """Return the seed given on the command line."""
    return int(request.config.getoption("--chaos-seed"))
