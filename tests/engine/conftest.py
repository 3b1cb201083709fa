"""Clusters that several tests share: starting one takes a second, and a fault is injected only into one's own."""

from collections.abc import Iterator

import pytest

from tests.engine.cluster import Cluster, demo


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a running cluster of two workers and eight slots, for tests that leave it as it was."""
    with demo(tmp_path_factory.mktemp("cluster"), "--parallel", "8", "--ctx-size", "1024") as running:
        yield running
