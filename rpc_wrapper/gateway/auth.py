"""Who may ask for what: keys when there are any, the machine itself when there are none."""

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rpc_wrapper.gateway.errors import Refusal, forbidden, unauthorized
from rpc_wrapper.gateway.headers import Headers, find

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health", "/v1/health"})
CONTROL_PREFIX = "/cluster"
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says about its sender; ``peer`` is the address of the other end of the connection."""

    method: str
    path: str
    headers: Headers = field(repr=False)
    peer: str | None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in force; no ``api`` keys: everybody may ask; no ``admin`` keys: the API keys serve."""

    api: tuple[str, ...] = field(default=(), repr=False)
    admin: tuple[str, ...] = field(default=(), repr=False)


def check(caller: Caller, keys: Keys) -> None:
    """Return when the caller may go on, else raise Refusal (401 or 403)."""
    if caller.path in PUBLIC_PATHS or caller.method == "OPTIONS":  # browsers send no key with a preflight
        return
    if is_control(caller.method, caller.path):
        _check_control(caller, keys.admin or keys.api)
    elif keys.api and not matches(caller.headers, keys.api + keys.admin):
        raise Refusal(unauthorized())


def is_control(method: str, path: str) -> bool:
    """Tell whether a request changes the state of the cluster."""
    return method not in ("GET", "HEAD", "OPTIONS") and path.startswith(CONTROL_PREFIX)


def matches(headers: Headers, keys: tuple[str, ...]) -> bool:
    """Tell whether a presented key is one of ours, in a time that does not depend on which."""
    presented = _presented(headers)
    found = False
    for key in keys:
        for candidate in presented:
            found |= hmac.compare_digest(candidate, key.encode())
    return found


def _presented(headers: Headers) -> list[bytes]:
    scheme, _, token = (find(headers, b"authorization") or b"").partition(b" ")
    bearer = [token.strip()] if scheme.lower() == b"bearer" else []
    plain = find(headers, b"x-api-key")
    return bearer if plain is None else [*bearer, plain.strip()]


def _check_control(caller: Caller, keys: tuple[str, ...]) -> None:
    if keys:
        if not matches(caller.headers, keys):
            raise Refusal(unauthorized())
    elif not _is_from_this_machine(caller):
        message = (
            "Without APP_ADMIN_KEYS the cluster is controlled from its own machine only: set a key, or call it there."
        )
        raise Refusal(forbidden("control_refused", message))


def _is_from_this_machine(caller: Caller) -> bool:
    """Require a loopback peer, a loopback Host (a rebound DNS name is none), no foreign Origin and no proxy between."""
    if any(find(caller.headers, name) is not None for name in _FORWARDED):
        return False
    host = (find(caller.headers, b"host") or b"").decode("latin-1")
    origin = find(caller.headers, b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
        return False
    return _is_loopback(caller.peer) and _is_loopback(_host_name(host))


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
