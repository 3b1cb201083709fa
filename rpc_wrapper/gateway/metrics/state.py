"""Write the cluster as it stands (what ``GET /cluster`` shows) as metrics. Pure: a snapshot in, families out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Metric

from rpc_wrapper.devices import MIB
from rpc_wrapper.gateway.node import NodeState
from rpc_wrapper.metrics.exposition import Labels, counter, gauge
from rpc_wrapper.rpc import ProbeState
from rpc_wrapper.supervisor import State

Snapshot = Mapping[str, Any]

_WORKING = frozenset({NodeState.UP.value, NodeState.SILENT.value})  # silent is its agent alone


def cluster_families(snapshot: Snapshot) -> list[Metric]:
    """Return what is known of the group, its backends and its links; a part that is not there has no series."""
    return [
        *_group(snapshot),
        *_backends(snapshot),
        *_memory(snapshot),
        *_links(_of(snapshot, "links")),
        *_journal(snapshot.get("journal")),
    ]


def _group(snapshot: Snapshot) -> Iterable[Metric]:
    labels = {"group": str(snapshot.get("name", ""))}
    state = snapshot.get("state")
    states = [({**labels, "state": each.value}, state == each.value) for each in State]
    yield gauge("rpcw_group_state", "1 for the state that a group is in.", states)
    ready = "Whether a group has its engine ready."
    yield gauge("rpcw_group_ready", ready, [(labels, state == State.READY.value)])
    since = "When a group came into its state, in Unix seconds."
    yield gauge("rpcw_group_state_since_seconds", since, [(labels, snapshot.get("since"))])
    starts = "Times that the engine of a group was started."
    yield counter("rpcw_engine_starts_total", starts, [(labels, snapshot.get("generation"))])
    yield gauge("rpcw_slots", "Requests a group answers at the same time.", [(labels, snapshot.get("slots"))])


def _backends(snapshot: Snapshot) -> Iterable[Metric]:
    """A machine that was looked at just now is up or not; one that was not, as its last probe found it."""
    rows = {str(row["address"]): row for row in _of(snapshot, "backends")}
    nodes = {str(node["name"]): node for node in _of(snapshot, "nodes")}
    up = [(_backend(name), _is_up(row, nodes.get(name))) for name, row in rows.items()]
    yield gauge("rpcw_backend_up", "Whether a backend does its work.", up)
    states = [
        ({**_backend(name), "state": state.value}, row["state"] == state.value)
        for name, row in rows.items()
        for state in ProbeState
    ]
    yield gauge("rpcw_backend_state", "1 for what the last probe of a backend found.", states)
    kept_out = [(_backend(name), row.get("quarantine") is not None) for name, row in rows.items()]
    yield gauge("rpcw_backend_quarantined", "Whether a backend failed and has to prove itself first.", kept_out)
    used = [(_backend(name), row.get("used")) for name, row in rows.items()]
    yield gauge("rpcw_backend_used", "Whether the newest plan puts anything on a backend.", used)
    rtt = [(_backend(name), _seconds(row.get("rtt_ms"))) for name, row in rows.items()]
    yield gauge("rpcw_backend_probe_round_trip_seconds", "Round trip of the last probe of a backend.", rtt)


def _is_up(row: Snapshot, node: Snapshot | None) -> bool:
    return row["state"] == ProbeState.OK.value if node is None else node["state"] in _WORKING


def _backend(name: str) -> dict[str, str]:
    return {"backend": name}


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _memory(snapshot: Snapshot) -> Iterable[Metric]:
    """What each backend lends, what the plan counts on, and what is really allocated there as its link saw it."""
    budgets = {str(row["address"]): row.get("budget_mib") for row in _of(snapshot, "backends")}
    lent = [(_backend(name), None if mib is None else mib * MIB) for name, mib in budgets.items()]
    yield gauge("rpcw_backend_memory_budget_bytes", "Memory that a backend lends.", lent)
    predicted: Counter[str] = Counter()
    for part in (snapshot.get("plan") or {}).get("assignments", []):
        if part["endpoint"] is not None:
            predicted[str(part["endpoint"])] += part["weights_bytes"] + part["kv_bytes"] + part["compute_bytes"]
    planned = [(_backend(name), size) for name, size in predicted.items()]
    yield gauge("rpcw_backend_memory_predicted_bytes", "Memory that the plan needs on a backend.", planned)
    used = [(_backend(str(link["endpoint"])), sum(link["allocated_bytes"].values())) for link in _of(snapshot, "links")]
    yield gauge("rpcw_backend_memory_used_bytes", "Memory that is allocated on a backend.", used)


def _of(snapshot: Snapshot, section: str) -> list[Snapshot]:
    return snapshot.get(section) or []


def _links(links: list[Snapshot]) -> Iterable[Metric]:
    def both(quantity: str) -> list[tuple[Labels, float | None]]:
        return [
            ({"backend": str(link["endpoint"]), "direction": way}, link[f"{quantity}_{way}_backend"])
            for link in links
            for way in ("to", "from")
        ]

    def each(quantity: str) -> list[tuple[Labels, float | None]]:
        return [(_backend(str(link["endpoint"])), link[quantity]) for link in links]

    yield counter("rpcw_link_bytes_total", "Bytes over a link, heads included.", both("bytes"))
    yield counter("rpcw_link_frames_total", "Messages over a link.", both("frames"))
    yield gauge("rpcw_link_round_trip_seconds", "Round trip over a link without any computing.", each("rtt_s"))
    yield gauge("rpcw_link_connections", "Connections of the engine over a link.", each("connections"))
    yield counter("rpcw_link_stages_total", "Graphs that a backend computed.", each("stages"))
    waited = "Wait for a backend's graphs: its computing and the network's round trips."
    yield counter("rpcw_link_stage_wait_seconds_total", waited, each("stage_waited_s"))
    yield counter("rpcw_link_weights_pushed_bytes_total", "Weights sent over a link.", each("weights_pushed_bytes"))
    missed = "Weights sent over a link that a backend keeps in its cache for the next start."
    yield counter("rpcw_link_weights_missed_bytes_total", missed, each("cacheable_pushed_bytes"))
    found = "Weights that a backend had in its cache."
    yield counter("rpcw_link_weights_cached_bytes_total", found, each("weights_found_bytes"))
    commands = [
        ({"backend": str(link["endpoint"]), "command": name.lower()}, totals)
        for link in links
        for name, totals in link["commands"].items()
    ]
    counts = [(labels, totals["count"]) for labels, totals in commands]
    yield counter("rpcw_link_commands_total", "Commands sent over a link.", counts)
    waits = [(labels, totals["waited_s"]) for labels, totals in commands]
    yield counter("rpcw_link_command_wait_seconds_total", "Wait for the answers to a command.", waits)


def _journal(journal: Snapshot | None) -> Iterable[Metric]:
    rows = journal or {}
    none: Labels = {}
    yield gauge("rpcw_journal_entries", "Requests that would outlive their engine.", [(none, rows.get("entries"))])
    yield gauge("rpcw_journal_bytes", "Memory that remembers them.", [(none, rows.get("bytes"))])
    resumed = "Times that a request went on after its engine was lost."
    yield counter("rpcw_resumes_total", resumed, [(none, rows.get("resumed_total"))])
    ended = "Requests that lost their engine and could not go on."
    yield counter("rpcw_requests_lost_total", ended, [(none, rows.get("ended_total"))])
