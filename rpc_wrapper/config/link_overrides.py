"""What single backends' links simulate instead of what all links do: ``host:port+latency=MIN-MAX+mbit=N``."""

import math
import re
from dataclasses import dataclass

from rpc_wrapper.devices import Endpoint, parse_endpoint
from rpc_wrapper.errors import ConfigError

UNLIMITED = "unlimited"
_LATENCY = re.compile(r"(?P<least>\d+(?:\.\d+)?)(?:-(?P<most>\d+(?:\.\d+)?))?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EXAMPLE = "write host:port+latency=0.01-0.02+mbit=100"


@dataclass(frozen=True, slots=True)
class LinkOverride:
    """One backend's exceptions; None leaves what APP_LATENCY_* or APP_LINK_MBIT say.

    ``latency_s`` is the least and the most per message and direction, ``mbit_per_s`` is infinite for no limit.
    """

    endpoint: Endpoint
    latency_s: tuple[float, float] | None = None
    mbit_per_s: float | None = None

    def __str__(self) -> str:
        text = str(self.endpoint)
        if self.latency_s is not None:
            least_s, most_s = self.latency_s
            text += f"+latency={least_s:.10g}-{most_s:.10g}" if least_s < most_s else f"+latency={most_s:.10g}"
        if self.mbit_per_s is not None:
            text += f"+mbit={UNLIMITED if math.isinf(self.mbit_per_s) else f'{self.mbit_per_s:.10g}'}"
        return text


def parse_link_overrides(text: str) -> tuple[LinkOverride, ...]:
    """Parse a comma list of overrides; raise ConfigError naming the one that is wrong."""
    overrides = tuple(_parse(part.strip()) for part in text.split(",") if part.strip())
    endpoints = [str(override.endpoint) for override in overrides]
    for endpoint in endpoints:
        if endpoints.count(endpoint) > 1:
            raise ConfigError(f"{endpoint} has {endpoints.count(endpoint)} overrides: join them with + into one")
    return overrides


def _parse(text: str) -> LinkOverride:
    address, *options = text.split("+")
    endpoint = parse_endpoint(address)
    if endpoint.budget_bytes is not None:
        raise ConfigError(f"override {text!r} sets a budget: say that in APP_RPC_BACKENDS, {_EXAMPLE} here")
    values: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in ("latency", "mbit"):
            raise ConfigError(f"override {text!r}: {name!r} is neither latency nor mbit, {_EXAMPLE}")
        if name in values:
            raise ConfigError(f"override {text!r} says {name} twice: keep one")
        values[name] = value
    if not values:
        raise ConfigError(f"override {text!r} overrides nothing: {_EXAMPLE}")
    return LinkOverride(endpoint, _latency(values.get("latency"), text), _mbit(values.get("mbit"), text))


def _latency(value: str | None, text: str) -> tuple[float, float] | None:
    if value is None:
        return None
    match = _LATENCY.fullmatch(value)
    if match is None:
        raise ConfigError(f"override {text!r}: latency={value} is not in seconds, write 0.01 or 0.01-0.02")
    least_s = float(match["least"])
    most_s = float(match["most"] or least_s)
    if most_s < least_s:
        raise ConfigError(f"override {text!r}: a latency from {least_s:g} to {most_s:g} s is none, swap them")
    return least_s, most_s


def _mbit(value: str | None, text: str) -> float | None:
    if value is None:
        return None
    if value == UNLIMITED:
        return math.inf
    if not _NUMBER.fullmatch(value) or float(value) == 0:
        raise ConfigError(f"override {text!r}: mbit={value} is no bandwidth, write a number above 0 or {UNLIMITED}")
    return float(value)
