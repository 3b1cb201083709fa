"""Judges the facts about this machine and its engine: what is wrong, and how to mend it. The judging is pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rpc_wrapper.devices import MIB
from rpc_wrapper.engine import binaries, flags, machine, selftest
from rpc_wrapper.errors import EngineError

PORTS = {8080: "gateway (APP_PORT)", 50052: "worker (APP_PORT)", 50053: "agent (APP_AGENT_PORT)"}
PINNED_PROTOCOL = "7.0.0"  # what the wire code of this package was written for
LITTLE_MEMORY_BYTES = 1024 * MIB
NEEDED_FLAGS = ("--rpc", "--device", "--tensor-split", "--ctx-size", "--parallel", "--verbosity")


class Verdict(StrEnum):
    """How bad a finding is; only ``WRONG`` makes this machine unusable."""

    OK = "ok"
    NOTICE = "notice"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``advice`` says how to mend what is not ok."""

    section: str
    subject: str
    value: str
    verdict: Verdict = Verdict.OK
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was asked; ``engine_error`` is why there is no engine."""

    engine: binaries.Engine | None
    engine_error: str
    server_flags: frozenset[str]
    worker_devices: dict[str, str]
    self_test: selftest.SelfTest | None
    cpu: machine.CPU
    cpu_count: int
    threads: int
    limits: machine.CgroupLimits
    is_container: bool
    available_bytes: int
    limit_bytes: int
    port_users: tuple[machine.PortUser, ...]


def gather(engine_dir: Path | None, model: Path | None) -> Facts:
    """Ask the machine and the engine; blocks for a second or two. Without ``model`` nothing is computed."""
    engine, error = None, ""
    accepted: frozenset[str] = frozenset()
    devices: dict[str, str] = {}
    try:
        engine = binaries.find_engine(engine_dir)
        accepted = flags.accepted_flags(engine.server)
        devices = binaries.worker_device_list(engine.worker)
    except EngineError as reason:
        error = str(reason)
    users = tuple(user for port in PORTS if (user := machine.port_user(port)) is not None)
    return Facts(
        engine=engine,
        engine_error=error,
        server_flags=accepted,
        worker_devices=devices,
        self_test=_self_test(engine, model),
        cpu=machine.cpu(),
        cpu_count=machine.cpu_count(),
        threads=machine.default_threads(),
        limits=machine.read_cgroup(),
        is_container=machine.is_container(),
        available_bytes=machine.available_bytes(),
        limit_bytes=machine.memory_limit_bytes(),
        port_users=users,
    )


def _self_test(engine: binaries.Engine | None, model: Path | None) -> selftest.SelfTest | None:
    if engine is None or model is None:
        return None
    try:
        bench = engine.program("llama-bench")
    except EngineError:
        return None
    return selftest.compute_here(bench, model, machine.default_threads())


def examine(facts: Facts) -> list[Finding]:
    """Judge the facts."""
    return [*_engine(facts), *_computation(facts), *_processor(facts), *_memory(facts), *_ports(facts.port_users)]


def is_usable(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing is wrong; notices do not count."""
    return all(finding.verdict is not Verdict.WRONG for finding in findings)


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the report as JSON: ``usable`` and one object per finding."""
    return {"usable": is_usable(findings), "findings": [asdict(finding) for finding in findings]}


def _engine(facts: Facts) -> list[Finding]:
    section = "engine"
    if facts.engine is None:
        return [Finding(section, "programs", "missing", Verdict.WRONG, facts.engine_error)]
    engine = facts.engine
    return [
        Finding(section, "llama-server", str(engine.server)),
        Finding(section, "worker", str(engine.worker)),
        Finding(section, "version", engine.version),
        _protocol(engine.protocol),
        _flags(facts.server_flags, facts.engine_error),
        *(Finding(section, f"device {name}", text) for name, text in facts.worker_devices.items()),
    ]


def _protocol(protocol: str | None) -> Finding:
    subject = "RPC protocol"
    if protocol is None:
        advice = "This worker does not say its protocol: run scripts/setup to get the tested engine."
        return Finding("engine", subject, "unknown", Verdict.NOTICE, advice)
    if protocol.split(".")[0] != PINNED_PROTOCOL.split(".", maxsplit=1)[0]:
        advice = f"This package speaks {PINNED_PROTOCOL}: run scripts/setup to get the tested engine."
        return Finding("engine", subject, protocol, Verdict.WRONG, advice)
    return Finding("engine", subject, protocol)


def _flags(accepted: frozenset[str], error: str) -> Finding:
    missing = [flag for flag in NEEDED_FLAGS if flag not in accepted]
    if not missing:
        return Finding("engine", "flags", f"{len(accepted)} known, RPC among them")
    advice = (
        error or f"llama-server does not accept {', '.join(missing)}: build it with GGML_RPC=ON (scripts/setup does)."
    )
    return Finding("engine", "flags", "incomplete", Verdict.WRONG, advice)


def _computation(facts: Facts) -> list[Finding]:
    if facts.engine is None:
        return []
    test = facts.self_test
    if test is None:
        advice = "Run `rpc-wrapper doctor --model FILE` with any GGUF to let the engine compute."
        return [Finding("computation", "self-test", "not run", Verdict.NOTICE, advice)]
    if test.failure is not None:
        return [Finding("computation", "self-test", test.failure.value, Verdict.WRONG, test.detail)]
    return [Finding("computation", "self-test", test.detail)]


def _processor(facts: Facts) -> list[Finding]:
    limits = facts.limits
    quota = "none" if limits.cpus is None else f"{limits.cpus:g} CPUs"
    findings = [
        Finding("processor", "name", facts.cpu.name),
        Finding("processor", "features", " ".join(facts.cpu.vector_features) or "unknown"),
        Finding("processor", "CPUs", str(facts.cpu_count)),
        Finding("processor", "quota", quota),
        Finding("processor", "threads by default", str(facts.threads)),
        Finding("processor", "container", "yes" if facts.is_container else "no"),
    ]
    if limits.cpus is not None and limits.cpus < 1:
        advice = f"Less than one CPU ({limits.cpus:g}) makes every token wait: raise the container's CPU limit to 1."
        findings[3] = Finding("processor", "quota", quota, Verdict.NOTICE, advice)
    if facts.cpu.has_amx:
        advice = "If the engine dies of an illegal instruction, pass `-- --no-repack` or build with GGML_NATIVE=OFF."
        findings.append(Finding("processor", "AMX", "advertised", Verdict.NOTICE, advice))
    return findings


def _memory(facts: Facts) -> list[Finding]:
    limited = facts.limits.memory_bytes is not None
    limit = f"{facts.limit_bytes // MIB} MiB" + (" (control group)" if limited else "")
    available = f"{facts.available_bytes // MIB} MiB"
    if facts.available_bytes < LITTLE_MEMORY_BYTES:
        advice = f"{available} hold only small models: set APP_MEM below that, or free some memory."
        return [
            Finding("memory", "limit", limit),
            Finding("memory", "available", available, Verdict.NOTICE, advice),
        ]
    return [Finding("memory", "limit", limit), Finding("memory", "available", available)]


def _ports(users: Sequence[machine.PortUser]) -> list[Finding]:
    taken = {user.port: user for user in users}
    return [_port(port, role, taken.get(port)) for port, role in PORTS.items()]


def _port(port: int, role: str, user: machine.PortUser | None) -> Finding:
    subject = f"{port}, {role}"
    if user is None:
        return Finding("ports", subject, "free")
    who = f"taken by {user.name or 'an unknown program'}" + (f" (pid {user.pid})" if user.pid is not None else "")
    return Finding("ports", subject, who, Verdict.NOTICE, "Stop it, or choose another port, unless it is ours.")
