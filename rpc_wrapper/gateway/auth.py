"""Who may ask for what: keys when there are any, the machine itself when there are none."""

from dataclasses import dataclass, field

from rpc_wrapper.access import Caller, holds_key, is_from_this_machine
from rpc_wrapper.gateway.errors import Refusal, forbidden, unauthorized

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health", "/v1/health"})
CONTROL_PREFIXES = ("/cluster", "/workers")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in force; no ``api`` keys: everybody may ask; no ``admin`` keys: the API keys serve.

    ``pages`` are paths that anybody may read: the dashboard, which shows nothing before somebody has given it a key.
    """

    api: tuple[str, ...] = field(default=(), repr=False)
    admin: tuple[str, ...] = field(default=(), repr=False)
    pages: frozenset[str] = frozenset()


def check(caller: Caller, keys: Keys) -> None:
    """Return when the caller may go on, else raise Refusal (401 or 403)."""
    if caller.path in PUBLIC_PATHS or caller.method == "OPTIONS":  # browsers send no key with a preflight
        return
    if caller.path in keys.pages and caller.method in ("GET", "HEAD"):
        return
    if is_control(caller.method, caller.path):
        _check_control(caller, keys.admin or keys.api)
    elif keys.api and not holds_key(caller, keys.api + keys.admin):
        raise Refusal(unauthorized())


def is_control(method: str, path: str) -> bool:
    """Tell whether a request changes the state of the cluster."""
    return method not in ("GET", "HEAD", "OPTIONS") and path.startswith(CONTROL_PREFIXES)


def _check_control(caller: Caller, keys: tuple[str, ...]) -> None:
    if keys:
        if not holds_key(caller, keys):
            raise Refusal(unauthorized())
    elif not is_from_this_machine(caller):
        message = (
            "Without APP_ADMIN_KEYS the cluster is controlled from its own machine only: set a key, or call it there."
        )
        raise Refusal(forbidden("control_refused", message))
