"""Show what a probe found: a table for people, JSON for programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.rpc.result import ProbeResult, ProbeState

_COLORS = {"ok": "green", "busy": "yellow"}


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One address: what its worker answered, its agent when it has one, and the endpoint it was listed as."""

    result: ProbeResult
    agent: AgentStatus | None = None
    listed: Endpoint | None = None

    @property
    def name(self) -> str:
        """Return the endpoint as it was listed, with its address where that is another."""
        address = self.result.endpoint
        if self.listed is None or self.listed.host == address.host:
            return str(address)
        return f"{self.listed} at {address.host}"

    @property
    def holder(self) -> str | None:
        """Return the llama-server it serves: its gate answers probes all the same, so only its agent can tell."""
        return self.agent.holder if self.agent and self.result.state is ProbeState.OK else None

    @property
    def state(self) -> ProbeState:
        """Return what the worker answered; busy when it is another's."""
        return ProbeState.BUSY if self.holder else self.result.state

    @property
    def detail(self) -> str:
        """Say it in a sentence."""
        return f"it serves the llama-server at {self.holder}" if self.holder else self.result.detail


def to_json(lines: Sequence[ReportLine]) -> list[dict[str, object]]:
    """Return plain values for ``json.dumps``, one object per endpoint, with units in the keys."""
    return [_to_json(line) for line in lines]


def _to_json(line: ReportLine) -> dict[str, object]:
    result, agent = line.result, line.agent
    return {
        "endpoint": str(line.listed or result.endpoint),
        "address": str(result.endpoint),
        "state": str(line.state),
        "protocol": None if result.version is None else str(result.version),
        "devices": [{"free_bytes": d.free_bytes, "total_bytes": d.total_bytes} for d in result.devices],
        "rtt_ms": None if result.rtt_s is None else round(result.rtt_s * 1000, 3),
        "detail": line.detail,
        "agent": None
        if agent is None
        else {
            "state": agent.state,
            "pid": agent.pid,
            "budget_bytes": agent.budget_bytes,
            "uptime_s": agent.uptime_s,
        },
    }


def to_table(lines: Sequence[ReportLine]) -> Table:
    """Return a table with one row per endpoint, 80 columns wide if it can; its caption names the units."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("endpoint", "state", "protocol", "devices", "free", "total", "budget", "rtt"):
        is_text = heading in ("endpoint", "state")  # when it is narrow, only the state is broken, between its words
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "state")
    table.caption = "memory in MiB, a line per device; rtt in ms"
    table.caption_justify = "left"
    for line in lines:
        table.add_row(*_cells(line), style=_COLORS.get(line.state, "red"))
    return table


def _cells(line: ReportLine) -> tuple[str, ...]:
    result = line.result
    budget_bytes = None if line.agent is None else line.agent.budget_bytes
    return (
        line.name,
        str(line.state),
        str(result.version or "-"),
        str(len(result.devices) or "-"),
        _mib([device.free_bytes for device in result.devices]),
        _mib([device.total_bytes for device in result.devices]),
        _mib([] if budget_bytes is None else [budget_bytes]),
        "-" if result.rtt_s is None else f"{result.rtt_s * 1000:.2f}",
    )


def _mib(amounts_bytes: Sequence[int]) -> str:
    return "\n".join(str(amount // MIB) for amount in amounts_bytes) or "-"


def details(lines: Sequence[ReportLine]) -> list[str]:
    """Return one sentence for every endpoint that is not free."""
    return [f"{line.name}: {line.detail}" for line in lines if line.state is not ProbeState.OK]
