"""Which settings cannot be in force together; each finding is a sentence with what to do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpc_wrapper.config.settings import Settings

UNQUANTISED = ("f32", "f16", "bf16")


def contradictions(settings: "Settings") -> Iterator[str]:
    """Yield every contradiction."""
    yield from _addresses(settings)
    yield from _placement(settings)
    yield from _attention(settings)
    yield from _links(settings)
    yield from _token_delay(settings)
    yield from _restarts(settings)


def _addresses(settings: "Settings") -> Iterator[str]:
    if settings.mode == "backend" and settings.port == settings.agent_port:
        yield f"APP_PORT and APP_AGENT_PORT are both {settings.port}: give the agent a port of its own"


def _placement(settings: "Settings") -> Iterator[str]:
    strategy = settings.strategy
    if settings.boundaries is not None and strategy != "custom":
        yield f"APP_BOUNDARIES needs APP_STRATEGY=custom, not {strategy}: set it or drop the boundaries"
    if settings.boundaries is None and strategy == "custom":
        yield "APP_STRATEGY=custom needs APP_BOUNDARIES, for example 0-7,8-21: set them"


def _attention(settings: "Settings") -> Iterator[str]:
    """The engine needs flash attention for a quantised V cache and for tensor mode (llama-context.cpp)."""
    cache_type = settings.cache_type_v
    if settings.exact and settings.flash_attn == "on":
        yield "APP_EXACT turns flash attention off, and APP_FLASH_ATTN=on: drop one of them"
    why = "APP_EXACT" if settings.exact else "APP_FLASH_ATTN=off" if settings.flash_attn == "off" else None
    if why and cache_type not in UNQUANTISED:
        yield f"APP_CACHE_TYPE_V={cache_type} needs flash attention, which {why} turns off: drop that, or use f16"
    if why and settings.split_mode == "tensor":
        yield f"APP_SPLIT_MODE=tensor needs flash attention, which {why} turns off: drop that, or use layer"


def _links(settings: "Settings") -> Iterator[str]:
    if settings.latency_max < settings.latency_min:
        least, most = settings.latency_min, settings.latency_max
        yield f"APP_LATENCY_MIN={least:g} is more than APP_LATENCY_MAX={most:g}: set both"
    if settings.tls == "require" and None in (settings.tls_ca, settings.tls_cert, settings.tls_key):
        yield "APP_TLS=require needs APP_TLS_CA, APP_TLS_CERT and APP_TLS_KEY: set all three"
    if settings.link == "relay":
        return
    if settings.tls == "require":
        yield "APP_TLS=require needs APP_LINK=relay: the engine itself encrypts nothing"
    if settings.latency_max > 0 or settings.link_mbit is not None or settings.link_overrides:
        yield (
            "APP_LATENCY_MAX, APP_LINK_MBIT and APP_LINK_OVERRIDES need APP_LINK=relay:"
            " without a link nothing can be simulated"
        )
    for endpoint in settings.rpc_backends:
        if endpoint.is_ipv6:
            yield f"APP_RPC_BACKENDS has {endpoint}, an IPv6 literal, which the engine cannot parse: set APP_LINK=relay"


def _token_delay(settings: "Settings") -> Iterator[str]:
    least_s, most_s = settings.token_delay_min_s, settings.token_delay_max_s
    if most_s < least_s:
        yield f"APP_TOKEN_DELAY_MIN_S={least_s:g} is more than APP_TOKEN_DELAY_MAX_S={most_s:g}: set both"


def _restarts(settings: "Settings") -> Iterator[str]:
    if settings.backoff_s > settings.backoff_max_s:
        first, longest = settings.backoff_s, settings.backoff_max_s
        yield f"APP_BACKOFF_S={first:g} is more than APP_BACKOFF_MAX_S={longest:g}: set both"
