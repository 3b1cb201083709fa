"""Where a backend is (:class:`Endpoint`) and what it computes on (:class:`Device`)."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rpc_wrapper.errors import ConfigError

MIB = 1024 * 1024
MAX_ENDPOINTS = 16  # GGML_RPC_MAX_SERVERS, ggml-rpc.h
MAX_DEVICES = 15  # --tensor-split dies at 16 entries, local devices included

_ENDPOINT = re.compile(r"(?P<host>\[[^\]]+\]|[^:=\s]+):(?P<port>\d+)(?:\+agent=(?P<agent>\d+))?(?:=(?P<mib>\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One backend's address, as ``host:port[+agent=PORT][=MIB]`` writes it."""

    host: str
    port: int
    agent_port: int | None = None
    budget_bytes: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def agent(self) -> int:
        """Return the agent's port: the one given, else the port after the backend's own."""
        return self.agent_port if self.agent_port is not None else self.port + 1

    @property
    def is_ipv6(self) -> bool:
        """Tell whether the host is an IPv6 literal, which the engine itself cannot parse."""
        return ":" in self.host

    def at(self, address: str) -> "Endpoint":
        """Return the same backend under one resolved address."""
        return replace(self, host=address)


LOCAL = Endpoint("local", 0)  # in a list of backends: the server's own devices take part


def parse_endpoint(text: str) -> Endpoint:
    """Parse ``host:port[+agent=PORT][=MIB]``; raise ConfigError naming what is wrong with it."""
    match = _ENDPOINT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"endpoint {text!r} is malformed: write host:port, for example backend-cpu:50052")
    host = match["host"].strip("[]")
    if match["host"].startswith("["):
        _require_ipv6(host, text)
    port, agent = int(match["port"]), match["agent"] and int(match["agent"])
    for number in (port, agent or port):
        if not 0 < number < 65536:
            raise ConfigError(f"endpoint {text!r}: port {number} is out of range, use 1 to 65535")
    mib = match["mib"] and int(match["mib"])
    if mib == 0:
        raise ConfigError(f"endpoint {text!r}: a budget of 0 MiB lends nothing, use 1 or more")
    return Endpoint(host, port, agent or None, mib * MIB if mib else None)


def _require_ipv6(host: str, text: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ConfigError(f"endpoint {text!r}: {host!r} is not an IPv6 address") from None


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Parse a comma-separated list, keep its order, and refuse duplicates and more than 16."""
    endpoints = tuple(parse_endpoint(part) for part in text.split(",") if part.strip())
    seen: set[tuple[str, int]] = set()
    for endpoint in endpoints:
        if (endpoint.host, endpoint.port) in seen:
            raise ConfigError(f"endpoint {endpoint} is listed twice: one backend serves one llama-server once")
        seen.add((endpoint.host, endpoint.port))
    if len(endpoints) > MAX_ENDPOINTS:
        raise ConfigError(f"{len(endpoints)} endpoints are listed, the engine takes {MAX_ENDPOINTS} at most")
    return endpoints


def format_endpoints(endpoints: Sequence[Endpoint]) -> str:
    """Write endpoints the way ``--rpc`` takes them: ``host:port,host:port``."""
    return ",".join(str(endpoint) for endpoint in endpoints)


@dataclass(frozen=True, slots=True)
class Device:
    """One place that can hold blocks: a device of a backend, or one of the server's own.

    ``name`` is llama.cpp's (``RPC0``, ``CUDA0``, ``CPU``); RPC devices are numbered over all endpoints in order.
    ``budget_bytes`` is what the planner may use, never more than ``free_bytes`` when that is known honestly.
    """

    name: str
    budget_bytes: int
    endpoint: Endpoint | None = None
    index: int = 0
    kind: str = "cpu"
    free_bytes: int = 0
    total_bytes: int = 0
    speed: float = 1.0

    @property
    def label(self) -> str:
        """Return what users call it: its endpoint, with the device's index when it is not the first."""
        if self.endpoint is None:
            return self.name
        return str(self.endpoint) if self.index == 0 else f"{self.endpoint}#{self.index}"

    @property
    def is_local(self) -> bool:
        """Tell whether the device belongs to the server itself."""
        return self.endpoint is None
