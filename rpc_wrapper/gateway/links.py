"""The links of one group: one relay per backend, kept over restarts so that its port stays the same."""

import ssl
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.events import LinkEvent
from rpc_wrapper.link.meter import MeterSnapshot
from rpc_wrapper.link.relay import Link, LinkOptions
from rpc_wrapper.link.session import Security

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How the group's links behave; without `relay` llama-server connects to the backends itself.

    `tls` is the context of our side, when the backends are reached over TLS. `networks` has the simulated networks of
    the endpoints, by host and port as listed, that do not have the common one.
    """

    relay: bool = True
    tls: ssl.SSLContext | None = None
    network: Network = field(default_factory=Network)
    networks: Mapping[Key, Network] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)


class Links:
    """Open, keep and close links; what happens on them goes to `on_event`."""

    def __init__(self, config: LinkConfig, on_event: Callable[[LinkEvent], None]) -> None:
        self._config = config
        self._on_event = on_event
        self._links: dict[Key, Link] = {}
        self._networks: dict[Key, Network] = {}

    async def open(self, backends: Iterable[BackendReport]) -> dict[Endpoint, Endpoint]:
        """Return where llama-server reaches each backend: its link, or itself when links are off."""
        backends = tuple(backends)
        if not self._config.relay:
            return {backend.endpoint: backend.endpoint for backend in backends}
        wanted = {_key(backend.endpoint): backend for backend in backends}
        for key in [key for key in self._links if key not in wanted]:
            await self._links.pop(key).aclose()
        return {backend.endpoint: await self._open_one(key, backend) for key, backend in wanted.items()}

    async def _open_one(self, key: Key, backend: BackendReport) -> Endpoint:
        target = replace(backend.endpoint, budget_bytes=backend.budget_bytes)
        link = self._links.get(key)
        if link is not None and link.endpoint != target:  # its budget has changed
            await link.aclose()
        if link is None or link.endpoint != target:
            network = self._config.networks.get(_key(backend.listed), self._config.network)
            self._networks[key] = network
            options = LinkOptions(
                deadlines=self._config.deadlines,
                security=Security(self._config.tls, backend.listed.host) if self._config.tls else None,
                network=drawn_apart(network, backend.endpoint),
                local_port=link.address.port if link is not None else 0,
            )
            link = self._links[key] = Link(target, options, self._on_event)
        return await link.start()

    def snapshots(self) -> dict[Endpoint, tuple[Endpoint, MeterSnapshot]]:
        """Return each backend's link address and figures."""
        return {link.endpoint: (link.address, link.snapshot()) for link in self._links.values()}

    def to_json(self) -> list[dict[str, Any]]:
        """Return what `/cluster` shows of each link."""
        return [
            {
                "endpoint": str(link.endpoint),
                "address": str(link.address),
                "simulated": self._networks[key].to_json(),
                **link.snapshot().to_json(),
            }
            for key, link in self._links.items()
        ]

    async def aclose(self) -> None:
        """Close every link."""
        while self._links:
            await self._links.popitem()[1].aclose()


def _key(endpoint: Endpoint) -> Key:
    return endpoint.host, endpoint.port


def drawn_apart(network: Network, backend: Endpoint) -> Network:
    """Give a backend delays of its own, the same in every run (``hash`` is another in each)."""
    return replace(network, seed=network.seed + zlib.crc32(str(backend).encode()))
