"""Plans and profiles as tables for people."""

import shlex
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.plan import NO_LIMIT, Plan
from rpc_wrapper.planner.profile import ModelProfile
from rpc_wrapper.planner.store import StoredPlan


def plan_lines(plan: Plan) -> list[str]:
    """Return what stands below a plan's table: why it is so, and the arguments it becomes."""
    return ["", *(f"- {line}" for line in plan.reason), "", shlex.join(plan.argv())]


def plan_table(plan: Plan) -> Table:
    """Return a row per device: blocks, weights, KV, compute, budget, headroom, in MiB."""
    table = _table("device", "blocks", "weights", "KV", "compute", "budget", "headroom")
    for each in plan.assignments:
        name = each.device if each.endpoint is None else f"{each.device} {each.label}"
        sizes = (each.weights_bytes, each.kv_bytes, each.compute_bytes, each.budget_bytes, each.headroom_bytes)
        table.add_row(name, _blocks(each.first_block, each.last_block, each.has_output), *map(_mib, sizes))
    table.add_row("host", "embedding", _mib(plan.host.embedding_bytes), "", _mib(plan.host.compute_bytes), "", "")
    return table


def comparison_table(outcomes: Mapping[str, Plan | PlanError]) -> Table:
    """Return a row per strategy: the cut, how full the fullest device is, or why there is no plan."""
    table = _table("strategy", "blocks per device", "fullest", "least headroom")
    for name, outcome in outcomes.items():
        if isinstance(outcome, PlanError):
            table.add_row(name, Text(str(outcome), overflow="fold"), "-", "-")
            continue
        parts = [
            f"{each.device}: {_blocks(each.first_block, each.last_block, each.has_output)}"
            for each in outcome.assignments
        ]
        fullest = max(each.total_bytes / max(each.budget_bytes, 1) for each in outcome.assignments)
        headroom = min(each.headroom_bytes for each in outcome.assignments)
        table.add_row(name, "  ".join(parts), f"{100 * fullest:.0f} %", _mib(headroom))
    return table


def stored_table(stored: Sequence[StoredPlan], damaged: Sequence[str]) -> Table:
    """Return a row per saved plan."""
    table = _table("name", "model", "blocks", "devices", "tags", "description")
    for each in stored:
        plan = each.plan
        row = (str(plan.n_layer), str(len(plan.assignments)), ", ".join(each.tags), each.description)
        table.add_row(*map(Text, (each.name, plan.model, *row)))
    for name in damaged:
        table.add_row(Text(name), Text("damaged: see plan validate"), "", "", "", "")
    return table


def profile_view(profile: ModelProfile) -> RenderableType:
    """Return what a model is and what each of its blocks costs."""
    return Group(_facts(profile), Text(), _block_table(profile))


def _facts(profile: ModelProfile) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    experts = f"{profile.n_expert_used} of {profile.n_expert}" if profile.n_expert else "none"
    facts = {
        "model": profile.name,
        "architecture": profile.architecture,
        "quantisation": f"{profile.quantisation} (file type {profile.file_type})",
        "parameters": f"{profile.n_params:,}",
        "tensors": f"{len(profile.tensors)}, {_mib(profile.file_bytes)} MiB in {len(profile.files)} file(s)",
        "blocks": str(profile.n_layer),
        "context": f"{profile.n_ctx_train} tokens in training",
        "width": f"{profile.n_embd}, feed-forward {profile.n_ff}, vocabulary {profile.n_vocab}",
        "heads": f"{_range(profile.n_head)}, KV {_range(profile.n_head_kv)}",
        "head size": f"K {profile.head_dim_k}, V {profile.head_dim_v}",
        "experts": experts,
        "embedding": f"{_mib(profile.embedding_bytes)} MiB",
        "output": f"{_mib(profile.output_bytes)} MiB{', a copy of the embedding' if profile.is_tied else ''}",
        "KV cache": f"{profile.kv_bytes_per_token()} bytes per token in f16",
        "tokenizer": profile.tokenizer or "none",
        "chat template": "present" if profile.has_chat_template else "absent",
    }
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    return table


def _block_table(profile: ModelProfile) -> Table:
    """Return a row per run of equal blocks."""
    table = _table("blocks", "weights each", "K width", "V width", "state width")
    first = 0
    for index, block in enumerate(profile.blocks):
        if index + 1 < profile.n_layer and profile.blocks[index + 1] == block:
            continue
        widths = (str(block.k_width), str(block.v_width), str(block.state_width))
        table.add_row(_blocks(first, index, False), _mib(block.weights_bytes), *widths)
        first = index + 1
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _blocks(first: int, last: int, has_output: bool) -> str:
    if last < first:
        return "output"
    run = str(first) if first == last else f"{first}-{last}"
    return f"{run} + output" if has_output else run


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _mib(size_bytes: int) -> str:
    return "no limit" if size_bytes >= NO_LIMIT else f"{size_bytes / MIB:.1f}"
