"""Who is calling: does the caller hold a key, and does the call come from this very machine?"""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Headers = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says about its sender; ``peer`` is the address of the other end of the connection."""

    method: str
    path: str
    headers: Headers = field(repr=False)
    peer: str | None


def find(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of a header, given its lower-case name."""
    return next((value for key, value in headers if key.lower() == name), None)


def accepted_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the caller's own X-Request-Id when it is one that is safe to print, else None."""
    value = find(headers, b"x-request-id")
    return value.decode() if value is not None and _REQUEST_ID.fullmatch(value) else None


def holds_key(caller: Caller, keys: Sequence[str]) -> bool:
    """Tell whether a presented key (Bearer or x-api-key) is one of ours, in a time that does not depend on which."""
    presented = _presented(caller.headers)
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


def is_from_this_machine(caller: Caller) -> bool:
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
