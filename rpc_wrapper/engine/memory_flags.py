"""What a user's own engine flags and ``LLAMA_ARG_*`` variables change about memory, so that the planner can count it.

Pure. Names and variables are those of common/arg.cpp; the command line wins over the environment, as it does there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rpc_wrapper.errors import ConfigError


@dataclass(frozen=True, slots=True)
class MemoryFlags:
    """Every field is None when the user left it alone; sizes are in tokens.

    ``ctx_size`` is llama.cpp's: of all slots together. ``other`` names the flags that move memory in ways the planner
    cannot count (a draft model, a projector, tensors overridden by name).
    """

    ctx_size: int | None = None
    n_parallel: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attn: str | None = None
    split_mode: str | None = None
    kv_unified: bool | None = None
    swa_full: bool | None = None
    kv_offload: bool | None = None
    embeddings: bool | None = None
    other: tuple[str, ...] = ()


_NUMBERS = {
    "ctx_size": (("-c", "--ctx-size"), "LLAMA_ARG_CTX_SIZE"),
    "n_parallel": (("-np", "--parallel"), "LLAMA_ARG_N_PARALLEL"),
    "n_batch": (("-b", "--batch-size"), "LLAMA_ARG_BATCH"),
    "n_ubatch": (("-ub", "--ubatch-size"), "LLAMA_ARG_UBATCH"),
}
_WORDS = {
    "cache_type_k": (("-ctk", "--cache-type-k"), "LLAMA_ARG_CACHE_TYPE_K"),
    "cache_type_v": (("-ctv", "--cache-type-v"), "LLAMA_ARG_CACHE_TYPE_V"),
    "flash_attn": (("-fa", "--flash-attn"), "LLAMA_ARG_FLASH_ATTN"),
    "split_mode": (("-sm", "--split-mode"), "LLAMA_ARG_SPLIT_MODE"),
}
_SWITCHES = {  # flags that turn it on, flags that turn it off, the variable
    "kv_unified": (("-kvu", "--kv-unified"), ("-no-kvu", "--no-kv-unified"), "LLAMA_ARG_KV_UNIFIED"),
    "swa_full": (("--swa-full",), (), "LLAMA_ARG_SWA_FULL"),
    "kv_offload": (("-kvo", "--kv-offload"), ("-nkvo", "--no-kv-offload"), "LLAMA_ARG_KV_OFFLOAD"),
    "embeddings": (("--embedding", "--embeddings"), (), "LLAMA_ARG_EMBEDDINGS"),
}
_OTHER = {
    "-md": "LLAMA_ARG_SPEC_DRAFT_MODEL",
    "--model-draft": "LLAMA_ARG_SPEC_DRAFT_MODEL",
    "--spec-draft-model": "LLAMA_ARG_SPEC_DRAFT_MODEL",
    "--spec-draft-hf": "LLAMA_ARG_SPEC_DRAFT_HF_REPO",
    "-mm": "LLAMA_ARG_MMPROJ",
    "--mmproj": "LLAMA_ARG_MMPROJ",
    "-mmu": "LLAMA_ARG_MMPROJ_URL",
    "--mmproj-url": "LLAMA_ARG_MMPROJ_URL",
    "-ot": "LLAMA_ARG_OVERRIDE_TENSOR",
    "--override-tensor": "LLAMA_ARG_OVERRIDE_TENSOR",
    "-cmoe": "LLAMA_ARG_CPU_MOE",
    "--cpu-moe": "LLAMA_ARG_CPU_MOE",
    "-ncmoe": "LLAMA_ARG_N_CPU_MOE",
    "--n-cpu-moe": "LLAMA_ARG_N_CPU_MOE",
    "-ncffn": "LLAMA_ARG_N_CPU_FFN",
    "--n-cpu-ffn": "LLAMA_ARG_N_CPU_FFN",
    "--kv-unified-per-slot": "LLAMA_ARG_KV_UNIFIED_PER_SLOT",
    "--lora": "",
    "--lora-scaled": "",
    "--control-vector": "",
    "--control-vector-scaled": "",
}
_TRUE = {"on", "enabled", "true", "1"}  # is_truthy and is_falsey, common/arg.cpp
_FALSE = {"off", "disabled", "false", "0"}


def read_memory_flags(extra: Sequence[str], environ: Mapping[str, str]) -> MemoryFlags:
    """Read the flags that change memory; raise ConfigError for one whose value is missing or no number."""
    found: dict[str, object] = {}
    for name, (flags, variable) in _NUMBERS.items():
        given = _last_value(extra, flags, environ, variable)
        found[name] = None if given is None else _number(*given)
    for name, (flags, variable) in _WORDS.items():
        given = _last_value(extra, flags, environ, variable)
        found[name] = None if given is None else given[1]
    for name, (on, off, variable) in _SWITCHES.items():
        found[name] = _switch(extra, on, off, environ.get(variable))
    named = dict.fromkeys(canonical(word) for word in extra if canonical(word) in _OTHER)
    named.update(dict.fromkeys(variable for variable in _OTHER.values() if environ.get(variable)))
    return MemoryFlags(**found, other=tuple(named))  # type: ignore[arg-type]


def canonical(word: str) -> str:
    """Write a flag the way llama.cpp compares it: in ``--long_flag`` an underscore counts as a dash."""
    return word.replace("_", "-") if word.startswith("--") else word


def _last_value(
    extra: Sequence[str], flags: tuple[str, ...], environ: Mapping[str, str], variable: str
) -> tuple[str, str] | None:
    for position in reversed(range(len(extra))):
        if canonical(extra[position]) in flags:
            if position + 1 == len(extra):
                raise ConfigError(f"{extra[position]} is the last argument and has no value: give it one")
            return extra[position], extra[position + 1]
    return (variable, environ[variable]) if environ.get(variable) else None


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}, which is no whole number: correct it or leave it out") from None


def _switch(extra: Sequence[str], on: tuple[str, ...], off: tuple[str, ...], variable: str | None) -> bool | None:
    for word in reversed(extra):
        if canonical(word) in on + off:
            return canonical(word) in on
    if variable is None:
        return None
    return True if variable.lower() in _TRUE else False if variable.lower() in _FALSE else None
