"""Snapshots of ``/cluster`` as a server would give them, of any size, for pages that are to be looked at."""

from typing import Any

MIB = 1024 * 1024
BEGAN = 1_700_000_000.0


def cluster(n_backends: int = 3, n_events: int = 3, **sections: Any) -> dict[str, Any]:
    """Return a ready cluster of so many backends with so many entries in its history."""
    names = [f"10.0.0.{number + 1}:50052" for number in range(n_backends)]
    parts = [assignment(name, index) for index, name in enumerate(names)]
    snapshot = {
        "name": "llama-server",
        "state": "ready",
        "since": BEGAN,
        "reason": "a token came out",
        "progress": "",
        "pid": 4242,
        "argv": ["llama-server", "--rpc", ",".join(names)],
        "generation": 1,
        "restarts": 0,
        "ever_ready": True,
        "last_exit": None,
        "last_lines": ["srv  update_slots: all slots are idle"],
        "history": history(n_events),
        "version": "0.1.0",
        "engine": {"version": "0.5.0", "protocol": "7.0.0"},
        "model": "rpc-wrapper demo",
        "ctx_size_per_slot": 2048,
        "slots": 4,
        "listed": names,
        "backends": [backend(name) for name in names],
        "plan": plan(parts),
        "loaded": {name: held(part) for name, part in zip(names, parts, strict=True)},
        "links": [link(name) for name in names],
        "nodes": [node("server"), *(node(name) for name in names)],
        "traffic": {"tokens_total": 0, "running": 0, "queued": 0},
        "journal": {"entries": 0, "bytes": 0, "resumed_total": 0, "ended_total": 0},
    }
    return snapshot | sections


def backend(name: str) -> dict[str, Any]:
    """Return the row of a backend that serves."""
    memory = {"free_bytes": 2048 * MIB, "total_bytes": 2048 * MIB}
    return {
        "endpoint": name,
        "address": name,
        "state": "ok",
        "detail": "it is free to serve",
        "protocol": "7.0.0",
        "rtt_ms": 0.4,
        "budget_mib": 2048,
        "agent": "ready",
        "devices": [memory],
    }


def assignment(name: str, index: int) -> dict[str, Any]:
    """Return the part of a backend: two blocks, one after the other's."""
    return {
        "endpoint": name,
        "device": f"RPC{index}",
        "first_block": 2 * index,
        "last_block": 2 * index + 1,
        "has_output": False,
        "weights_bytes": 700 * MIB,
        "kv_bytes": 64 * MIB,
        "compute_bytes": 96 * MIB,
        "budget_bytes": 2048 * MIB,
        "share": 2,
        "index": 0,
    }


def plan(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the plan of these parts; the last one gets the output."""
    if parts:
        parts[-1]["has_output"] = True
    return {
        "fits": True,
        "model": "rpc-wrapper demo",
        "n_layer": 2 * len(parts),
        "strategy": "memory",
        "workload": {"ctx_size": 2048, "n_parallel": 4, "split_mode": "layer"},
        "n_ctx": 8192,
        "assignments": parts,
        "host": {"embedding_bytes": 20 * MIB, "compute_bytes": 10 * MIB},
        "argv": ["--device", ",".join(part["device"] for part in parts)],
        "reason": "strategy memory: the fullest device is 42 % of its budget",
    }


def held(part: dict[str, Any]) -> dict[str, int]:
    """Return what the engine said a device holds."""
    return {
        "model_bytes": part["weights_bytes"],
        "kv_bytes": part["kv_bytes"],
        "compute_bytes": part["compute_bytes"],
        "output_bytes": 0,
        "kv_blocks": 2,
    }


def link(name: str) -> dict[str, Any]:
    """Return the figures of a busy link."""
    return {
        "endpoint": name,
        "address": "127.0.0.1:40001",
        "bytes_to_backend": 800 * MIB,
        "bytes_from_backend": 30 * MIB,
        "weights_pushed_bytes": 175 * MIB,
        "weights_found_bytes": 525 * MIB,
        "commands": {
            "SET_TENSOR": {"count": 3_200, "size_bytes": 180 * MIB, "waited_s": 0.0},
            "GRAPH_COMPUTE": {"count": 640, "size_bytes": 20 * MIB, "waited_s": 3.2},
        },
        "bytes_to_backend_per_s": 48_000.0,
        "bytes_from_backend_per_s": 16_000.0,
        "stages": 640,
        "stage_waited_s": 4.1,
        "recent_stages": 120,
        "recent_stage_s": 0.0064,
        "rtt_s": 0.0008,
        "connections": 1,
        "allocated_bytes": {"0": 860 * MIB},
    }


def node(name: str, state: str = "up", detail: str = "") -> dict[str, Any]:
    """Return how a machine is."""
    return {
        "name": name,
        "state": state,
        "detail": detail,
        "cpu_s": 12.5,
        "cpu_percent": 63.0,
        "rss_bytes": 900 * MIB,
        "restarts": 0,
        "gpus": [],
    }


def gpu(busy: float | None, used_mib: int, index: int = 0) -> dict[str, Any]:
    """Return how a GPU of 8 GiB is."""
    used = {"used_bytes": used_mib * MIB, "total_bytes": 8192 * MIB}
    return {"index": index, "name": "NVIDIA GeForce GTX 1080", "busy": busy, **used}


def history(count: int) -> list[dict[str, Any]]:
    """Return so many occurrences: a start, then one lost worker after the other."""
    rounds = ["preparing", "starting", "ready", "fencing", "backoff"]
    return [occurrence(number, rounds[number % len(rounds)]) for number in range(count)]


def occurrence(number: int, kind: str) -> dict[str, Any]:
    """Return one entry of the history."""
    lost = {
        "kind": "connection",
        "text": "10.0.0.2:50052 closed the connection",
        "backend": "10.0.0.2:50052",
        "phase": "decode",
        "detected_after_s": 0.003,
    }
    texts = {"fencing": lost["text"], "backoff": "trying again in 0.5 s", "ready": "a token came out"}
    return {
        "number": number,
        "at": BEGAN + 0.7 * number,
        "kind": kind,
        "text": texts.get(kind, kind),
        "cause": "FaultFound" if kind == "fencing" else "Prepared",
        "fault": lost if kind == "fencing" else None,
    }


def strategies(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison of the plan in force with one that does not fit."""
    in_force = {"name": "memory", **snapshot["plan"]}
    refusal = {"name": "single_device", "fits": False, "assignments": [], "argv": [], "reason": "short by 812 MiB"}
    return {"chosen": "memory", "strategies": [in_force, refusal]}
