"""The list of backends and how it may change while the server runs. Pure; a change is a new list."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rpc_wrapper.devices import MAX_ENDPOINTS, Endpoint, format_endpoints
from rpc_wrapper.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Roster:
    """Endpoints as they were listed, and the single addresses of listed names that were dismissed."""

    listed: tuple[Endpoint, ...]
    dismissed: frozenset[str] = field(default_factory=frozenset)

    def has(self, backend: Endpoint) -> bool:
        """Tell whether an endpoint is listed as it is written, and not dismissed."""
        return any(str(each) == str(backend) for each in self.listed) and str(backend) not in self.dismissed

    def with_added(self, backend: Endpoint) -> "Roster":
        """Return the list with one more at its end; a dismissed address of a listed name comes back to its place."""
        dismissed = self.dismissed - {str(backend)}
        if dismissed != self.dismissed or self.has(backend):
            return replace(self, dismissed=dismissed)
        if len(self.listed) >= MAX_ENDPOINTS:
            raise ConfigError(
                f"{len(self.listed)} backends are listed, which is all the engine takes: remove one before {backend}"
            )
        return replace(self, listed=(*self.listed, backend), dismissed=dismissed)

    def without(self, backend: Endpoint, addresses: Iterable[Endpoint] = ()) -> "Roster":
        """Return the list without one; ``addresses`` are those its names resolve to, each of which may be dismissed.

        Raises ConfigError for one that is not there.
        """
        if self.has(backend):
            return replace(self, listed=tuple(each for each in self.listed if str(each) != str(backend)))
        if str(backend) in map(str, addresses):
            return replace(self, dismissed=self.dismissed | {str(backend)})
        known = format_endpoints(self.listed) or "none"
        raise ConfigError(f"{backend} is not among the backends ({known}): see GET /cluster")
