"""What the gateway needs of the cluster, and nothing more."""

from dataclasses import dataclass, field
from typing import Any, Protocol


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

    async def restart(self, reason: str) -> None:
        """Ask for an orderly restart of the engine; return as soon as it is under way."""
