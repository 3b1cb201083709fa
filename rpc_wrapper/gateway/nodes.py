"""Ask every machine of the cluster how it is: its agent over HTTP, this one itself."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.node import SERVER, Node, NodeState, cpu_percent, judge, usage_of
from rpc_wrapper.metrics.gpu import GPUReader
from rpc_wrapper.usage import Usage, usage

FRESH_S = 0.05  # who asks so soon after another gets the same answer


class Nodes:
    """What was last seen of the machines; nothing is asked unless somebody looks."""

    def __init__(self, scout: Scout) -> None:
        self._scout = scout
        self._gpus = GPUReader()
        self._asking = asyncio.Lock()
        self._at = float("-inf")
        self._usages: dict[str, Usage | None] = {}
        self._nodes: tuple[Node, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """Return a row per machine, the server's first; none before somebody has looked."""
        return [node.to_json() for node in self._nodes]

    async def observe(self, reports: Sequence[BackendReport], linked: frozenset[Endpoint], pid: int | None) -> None:
        """Look at this machine, where llama-server is `pid`, and at every backend; once for all who ask together."""
        asked_at = time.monotonic()
        async with self._asking:
            if asked_at - self._at < FRESH_S:  # what was seen since then, by whoever was first
                return
            now = time.monotonic()
            elapsed_s, self._at = now - self._at, now
            server = self._node(SERVER, (NodeState.UP, ""), usage(os.getpid(), pid), elapsed_s)
            backends = await asyncio.gather(*(self._backend(report, linked, elapsed_s) for report in reports))
            self._nodes = (replace(server, gpus=self._gpus.latest()), *backends)
            self._usages = {node.name: node.usage for node in self._nodes}

    async def _backend(self, report: BackendReport, linked: frozenset[Endpoint], elapsed_s: float) -> Node:
        agent = await self._scout.ask_agent(report.listed, report.endpoint)
        state = judge(report, agent, is_linked=report.endpoint in linked)
        restarts = agent.restarts if agent else None
        node = self._node(str(report.endpoint), state, usage_of(agent), elapsed_s, restarts)
        return replace(node, gpus=agent.gpus) if agent else node

    def _node(
        self,
        name: str,
        state: tuple[NodeState, str],
        used: Usage | None,
        elapsed_s: float,
        restarts: int | None = None,
    ) -> Node:
        return Node(name, *state, used, cpu_percent(self._usages.get(name), used, elapsed_s), restarts)
