"""Named sets of settings: a start for common wishes, overridden by anything set explicitly."""

from collections.abc import Mapping
from types import MappingProxyType

TEMPLATES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        # One user, even shares, a small context: the first try.
        "basic": {"strategy": "uniform", "parallel": 1, "ctx_size": 2048},
        # The largest model that fits: a quantised cache halves the bytes per token, and needs flash attention.
        "memory": {
            "strategy": "memory",
            "parallel": 1,
            "ctx_size": 2048,
            "cache_type_k": "q8_0",
            "cache_type_v": "q8_0",
            "flash_attn": "on",
        },
        # Many users: the slowest device decides, so blocks follow speed.
        "performance": {"strategy": "compute", "parallel": 8, "max_queue": 64},
        # Unlike machines: fit first, then balance.
        "mixed": {"strategy": "mixed", "memory_weight": 0.7},
    }
)
