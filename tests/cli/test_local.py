"""The ports that a machine's own programs use among themselves."""

import socket
from pathlib import Path

import pytest

from rpc_wrapper.cli import local
from rpc_wrapper.cli.local import INNER_PORTS, free_port
from rpc_wrapper.errors import ConfigError

LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_given_twice():
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(INNER_PORTS)


@pytest.mark.skipif(not LOCAL_RANGE.exists(), reason="Linux says it there")
def test_the_kernel_gives_none_of_them_to_an_outgoing_connection():
    first, last = map(int, LOCAL_RANGE.read_text().split())
    if (first, last) != (32768, 60999):
        pytest.skip(f"this machine's administrator chose {first} to {last}")
    assert not set(INNER_PORTS) & set(range(first, last + 1))


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        monkeypatch.setattr(local, "_left", iter([port, free]))
        assert free_port() == free
        with pytest.raises(ConfigError, match="no port between 20000 and 29999 is free"):
            free_port()
