"""The architecture as a table: who may import whom, what stays pure, how long a function may get."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rpc_wrapper"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A package or module may import itself and what stands here; imports point down.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "devices": {"errors"},
    "access": set(),
    "usage": set(),
    "metrics": {"usage"},
    "logs": {"errors"},
    "config": {"errors", "devices"},
    "rpc": {"errors", "devices", "usage"},
    "planner": {"errors", "devices"},
    "engine": {"errors", "devices", "planner"},
    "supervisor": {"errors", "devices", "logs"},
    "link": {"errors", "devices", "rpc"},
    "bench": {"errors", "devices"},
    "synthetic": {"errors"},
    "experiment": {"errors", "devices", "bench", "planner", "synthetic"},
    "talk": {"errors"},
    "pull": {"errors", "devices"},
    "health": {"errors", "devices", "config", "link"},
    "agent": {
        "access",
        "metrics",
        "usage",
        "errors",
        "devices",
        "logs",
        "config",
        "rpc",
        "engine",
        "supervisor",
        "link",
    },
    "gateway": {
        "access",
        "metrics",
        "usage",
        "errors",
        "devices",
        "logs",
        "config",
        "rpc",
        "planner",
        "engine",
        "supervisor",
        "link",
    },
    "cli": {"*"},
    "entry": {"cli", "supervisor"},
    "__main__": {"entry"},
    "__init__": set(),
}

# I/O, clocks and chance: kept out of the modules below, so that they are tested as arithmetic.
IMPURE = {"asyncio", "socket", "subprocess", "httpx", "fastapi", "time", "random", "os", "ssl", "threading", "psutil"}
PURE = [
    "errors.py",
    "devices.py",
    "access.py",
    "config/link_overrides.py",
    "rpc/commands.py",
    "rpc/messages.py",
    "rpc/connection.py",
    "rpc/result.py",
    "rpc/agent.py",
    "rpc/report.py",
    "bench/chart.py",
    "bench/report.py",
    "bench/stats.py",
    "bench/stream.py",
    "bench/workload.py",
    "engine/args.py",
    "engine/batch.py",
    "engine/benchmark.py",
    "engine/failure.py",
    "engine/loadlog.py",
    "engine/memory_flags.py",
    "planner/memory.py",
    "planner/strategies.py",
    "planner/slices.py",
    "planner/tensor_split.py",
    "planner/topology.py",
    "planner/plan.py",
    "supervisor/events.py",
    "supervisor/actions.py",
    "supervisor/lifecycle.py",
    "supervisor/restart.py",
    "supervisor/status.py",
    "supervisor/stopwatch.py",
    "link/conversation.py",
    "link/events.py",
    "link/frames.py",
    "link/lease.py",
    "link/lobby.py",
    "link/meter.py",
    "link/deadline.py",
    "link/budget.py",
    "experiment/cells.py",
    "experiment/report.py",
    "experiment/row.py",
    "experiment/spec.py",
    "talk/answer.py",
    "talk/split.py",
    "agent/metrics.py",
    "metrics/exposition.py",
    "metrics/process.py",
    "gateway/metrics/engine.py",
    "gateway/metrics/recovery.py",
    "gateway/metrics/state.py",
    "gateway/visit.py",
    "gateway/errors.py",
    "gateway/auth.py",
    "gateway/endpoints.py",
    "gateway/fields.py",
    "gateway/headers.py",
    "gateway/node.py",
    "gateway/tape.py",
    "gateway/proof.py",
    "gateway/journal/config.py",
    "gateway/journal/ending.py",
    "gateway/journal/entry.py",
    "gateway/journal/feed.py",
    "gateway/journal/merge.py",
    "gateway/journal/method.py",
    "gateway/journal/reading.py",
    "gateway/journal/speeds.py",
    "gateway/journal/sse.py",
    "gateway/journal/watchdog.py",
    "gateway/heartbeat.py",
    "gateway/load_watch.py",
    "gateway/placement.py",
    "gateway/quarantine.py",
    "gateway/roll_call.py",
    "gateway/roster.py",
]


def imports(path: Path) -> set[str]:
    """Return every module a file imports, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path: Path) -> str:
    """Return which row of the table a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    own = part(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("rpc_wrapper.")}
    ours &= set(MAY_IMPORT)  # `from rpc_wrapper import __version__` names no module
    allowed = MAY_IMPORT[own]
    assert "*" in allowed or ours <= allowed | {own}, f"{own} may not import {sorted(ours - allowed - {own})}"


@pytest.mark.parametrize("name", PURE)
def test_the_core_is_pure(name: str):
    roots = {module.split(".")[0] for module in imports(PACKAGE / name)}
    assert not roots & IMPURE


def test_only_the_settings_and_the_command_line_read_the_environment():
    readers = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(word in path.read_text() for word in ("os.environ", "os.getenv"))
    }
    # The health check is a command line of its own, which must not load the settings.
    assert readers == {"config/layers.py", "cli/options.py", "health.py"}


def functions(path: Path) -> list[tuple[str, int]]:
    """Return every function's name and length in lines, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            found.append((node.name, (node.end_lineno or 0) - first.lineno + 1))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_stay_short(path: Path):
    assert [(name, lines) for name, lines in functions(path) if lines > 50] == []


def test_the_median_function_is_short():
    lengths = sorted(lines for path in MODULES for _, lines in functions(path))
    assert lengths[len(lengths) // 2] <= 10
