"""A demo for the length of a measurement."""

import pytest

from rpc_wrapper.bench.cluster import Place, demo_cluster
from rpc_wrapper.bench.twin import free_ports
from rpc_wrapper.cli.options import environment
from rpc_wrapper.errors import StartFailed


async def test_a_demo_that_does_not_start_shows_its_last_words(tmp_path):
    [port] = free_ports(1)
    with pytest.raises(StartFailed, match=r"nowhere\.gguf") as caught:
        async with demo_cluster(Place(tmp_path, environment()), port, ["--model", "nowhere.gguf"]):
            raise AssertionError("it must not get here")
    assert caught.value.returncode not in (0, None)
