"""Translate llama-server's own arguments, given after ``--``, into the settings that own them."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rpc_wrapper.config.problems import variable


@dataclass(frozen=True, slots=True)
class MappedArgs:
    """``settings`` for the CLI layer, ``rest`` for the engine as it stands, ``notes`` for the log."""

    settings: Mapping[str, str]
    rest: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """One of llama-server's arguments (common/arg.cpp) and the setting it means.

    ``accepts`` tells which values mean the same to both; the others stay the engine's.
    """

    names: tuple[str, ...]
    field: str
    takes_value: bool = True
    accepts: Callable[[str], bool] = lambda _: True


def _is_layer_count(value: str) -> bool:
    """Tell whether ``-ngl`` is given a number; ``auto``, ``all`` and negatives are the engine's own planning."""
    return value.isdecimal()


def _is_positive(value: str) -> bool:
    """Tell whether a value is a count; 0 and -1 mean "decide yourself" to the engine."""
    return value.isdecimal() and int(value) > 0


FLAGS = (
    Flag(("--host",), "bind"),
    Flag(("--port",), "port"),
    Flag(("--rpc",), "rpc_backends"),
    Flag(("--model", "-m"), "model"),
    Flag(("--ctx-size", "-c"), "ctx_size", accepts=_is_positive),
    Flag(("--parallel", "-np"), "parallel", accepts=_is_positive),
    Flag(("--n-gpu-layers", "--gpu-layers", "-ngl"), "gpu_layers", accepts=_is_layer_count),
    Flag(("--split-mode", "-sm"), "split_mode", accepts=lambda value: value in ("layer", "tensor")),
    Flag(("--cache-type-k", "-ctk"), "cache_type_k"),
    Flag(("--cache-type-v", "-ctv"), "cache_type_v"),
    Flag(("--threads", "-t"), "threads", accepts=_is_positive),
    Flag(("--threads-batch", "-tb"), "threads_batch", accepts=_is_positive),
    Flag(("--threads-http",), "threads_http", accepts=_is_positive),
    Flag(("--chat-template",), "chat_template"),
    Flag(("--repeat-penalty",), "repeat_penalty"),
    Flag(("--embeddings", "--embedding"), "embeddings", takes_value=False),
    Flag(("--flash-attn", "-fa"), "flash_attn"),
)
_BY_NAME = {name: flag for flag in FLAGS for name in flag.names}

# Slots that share one context make "per slot" meaningless, so --ctx-size then stays the engine's.
UNIFIED = frozenset({"--kv-unified", "-kvu"})
BATCHING = frozenset({"--cont-batching", "-cb"})
# is_truthy, is_falsey and is_autoy of common/arg.cpp; older engines took --flash-attn without any of them.
SWITCH_VALUES = {
    **dict.fromkeys(("on", "enabled", "true", "1"), "on"),
    **dict.fromkeys(("off", "disabled", "false", "0"), "off"),
    **dict.fromkeys(("auto", "-1"), "auto"),
}


def from_llama_args(args: Sequence[str], parallel: int) -> MappedArgs:
    """Split llama-server arguments into settings and the rest, with a note for each that was translated.

    ``parallel`` is the number of slots in force, used when ``args`` does not set it: the engine's ``--ctx-size``
    counts all slots together, ours counts one. What has no unambiguous counterpart stays in ``rest``, unchanged and
    in order. Not for the worker, whose short flags mean other things.
    """
    taken: dict[str, str] = {}  # setting → value; a repeated flag's last value wins, as in the engine
    spelled: dict[str, str] = {}
    rest: list[str] = []
    unified = not UNIFIED.isdisjoint(args)
    queue = deque(args)
    while queue:
        name = queue.popleft()
        flag = _BY_NAME.get(name)
        value = None if flag is None or (unified and flag.field == "ctx_size") else _take_value(flag, queue)
        if flag is not None and value is not None:
            taken[flag.field] = value
            spelled[flag.field] = f"{name} {value}" if flag.takes_value else name
        elif name not in BATCHING:
            rest.append(name)
    if "ctx_size" in taken:
        slots = int(taken.get("parallel", parallel))
        taken["ctx_size"] = str(int(taken["ctx_size"]) // slots)
        spelled["ctx_size"] += f" over {slots} slots"
    notes = [f"{spelled[field]} is taken as {variable(field)}={value}" for field, value in taken.items()]
    notes += [f"{name} is dropped: continuous batching is the engine's default" for name in args if name in BATCHING]
    return MappedArgs(taken, tuple(rest), tuple(notes))


def _take_value(flag: Flag, queue: deque[str]) -> str | None:
    """Take a flag's value off the queue; None when it is missing, or is one that only the engine understands."""
    if not flag.takes_value:
        return "true"
    if flag.field == "flash_attn":
        return SWITCH_VALUES[queue.popleft()] if queue and queue[0] in SWITCH_VALUES else "on"
    if queue and flag.accepts(queue[0]):
        return queue.popleft()
    return None
