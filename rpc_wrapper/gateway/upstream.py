"""What the gateway needs of the cluster, and nothing more."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from rpc_wrapper.devices import Endpoint


@dataclass(frozen=True, slots=True)
class Target:
    """A llama-server that answers now; ``api_key`` is its own random key, never a client's."""

    base_url: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether tokens come out, and if not, the sentence that says who or what is missing."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a wish to change the list of backends, and whether the engine starts again for it.

    ``status`` is ``added``, ``removed`` or ``unchanged``, ``listed`` the list from now on.
    """

    status: str
    restarts: bool
    listed: tuple[str, ...]


class Upstream(Protocol):
    """The cluster behind the gateway."""

    @property
    def ever_ready(self) -> bool:
        """Tell whether it has been ready since it was started: only then is waiting for it promising."""

    async def ensure_ready(self, timeout_s: float) -> Target:
        """Return a ready target, waiting at most ``timeout_s`` (0: do not wait); raise NotReady."""

    def snapshot(self) -> dict[str, Any]:
        """Return what ``GET /cluster`` prints: JSON values only, no secrets."""

    def progress(self) -> dict[str, Any]:
        """Return what a client sent away may know: state, reason, since, missing backends, load progress."""

    async def check_ready(self) -> Readiness:
        """Tell whether a token really came out, recently; may send one request of its own to find out."""

    def note_token(self) -> None:
        """Take note that a client's request just produced a token, so that no other proof is needed."""

    async def observe(self) -> None:
        """Ask every machine how it is, for the section ``nodes`` of the snapshot; at once when that was just done."""

    async def changed(self) -> None:
        """Wait until the engine's state, or how far it has come, is another."""

    async def strategies(self) -> dict[str, Any]:
        """Return the plans that every strategy makes of the loaded model; raise NotReady before there is one."""

    async def lost(self, target: Target) -> None:
        """Hear that a connection to a target was cut; return once it is known whether that was the target's end."""

    async def restart(self, reason: str) -> None:
        """Ask for an orderly restart of the engine over a new plan; return as soon as it is under way."""

    async def add_backend(self, backend: Endpoint) -> Change:
        """Take one more backend in; raise ConfigError when it cannot be used."""

    async def remove_backend(self, backend: Endpoint) -> Change:
        """Use a backend no more; raise ConfigError when it cannot be spared."""
