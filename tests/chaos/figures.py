"""What chaos runs have shown, as values that can be written down, added up and printed. No I/O."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

from tests.chaos.faults import HARMLESS, Fault, FaultKind
from tests.chaos.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault and its recovery; None where the engine stayed, and then how long each stream stood still."""

    fault: Fault
    recovery: Timeline | None
    pauses_s: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.recovery is not None:
            return str(self.recovery)
        pause = f", the longest pause of a stream was {max(self.pauses_s):.2f} s" if self.pauses_s else ""
        return f"nobody was fenced{pause}"

    @property
    def streams_s(self) -> tuple[float, ...]:
        """Return how long each stream waited for its next token."""
        return self.recovery.streams_s if self.recovery else self.pauses_s

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Strike":
        """Return what :func:`dataclasses.asdict` has made of one."""
        recovery = value["recovery"]
        streams = {} if recovery is None else {**recovery, "streams_s": tuple(recovery["streams_s"])}
        return cls(_fault(value["fault"]), Timeline(**streams) if streams else None, tuple(value["pauses_s"]))


def _fault(value: Mapping[str, Any]) -> Fault:
    also = tuple(_fault(one) for one in value["also"])
    return Fault(FaultKind(value["kind"]), value["backend"], value["pause_s"], also)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run has shown, or several together; a text in a tuple stands for each promise that was not kept.

    ``greedy`` counts the whole answers whose text is known, ``explained`` those of the different ones that part at a
    near-tie behind a cut, ``unsteady`` those that differ from the text of a lonely client before there was any fault.
    """

    strikes: tuple[Strike, ...] = ()
    requests: int = 0
    left: int = 0
    resumed: int = 0
    greedy: int = 0
    explained: int = 0
    wall_s: float = 0.0
    lost: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()
    leaked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    cold_starts_s: tuple[float, ...] = ()

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Figures":
        """Return what :meth:`to_json` has written."""
        plain: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
        plain["strikes"] = tuple(Strike.from_json(one) for one in value["strikes"])
        return cls(**plain)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def fenced_in_vain(self) -> list[Strike]:
        """Return the strikes that should have passed without anybody being fenced."""
        unplanned = [one for one in self.strikes if one.recovery and not one.recovery.is_planned]
        return [strike for strike in unplanned if strike.fault.kind in HARMLESS]

    def broken(self, *, exact: bool) -> Iterator[str]:
        """Yield every promise that was not kept; what is different counts in exact mode only."""
        yield from (f"lost: {one}" for one in self.lost)
        yield from (f"different: {one}" for one in (self.different if exact else ()))
        yield from (f"leaked: {one}" for one in self.leaked)
        yield from (f"stuck: {one}" for one in self.stuck)
        yield from (f"fenced for nothing: {one.fault.kind}, {one.recovery}" for one in self.fenced_in_vain)

    def markdown(self) -> str:
        """Return the account."""
        return "\n".join([*self._summary(), "", *recoveries(self.strikes), *self._differences()])

    def _summary(self) -> Iterator[str]:
        same = self.greedy - len(self.different)
        share = f" ({100 * same / self.greedy:.1f} %)" if self.greedy else ""
        yield f"- {len(self.strikes)} faults, {self.requests} requests in {self.wall_s / 60:.0f} minutes"
        yield f"- {self.left} clients left by themselves; of the others {len(self.lost)} were lost"
        yield f"- {self.resumed} resumed; greedy texts: {same} of {self.greedy} identical{share}"
        if self.different:
            yield f"- of the {len(self.different)} others {self.explained} part at a near-tie behind a cut"
        yield f"- texts that differed before any fault, with all clients at once: {len(self.unsteady)}"
        yield f"- journal entries and file descriptors left behind: {len(self.leaked)}"
        yield f"- fenced for what passes by itself: {len(self.fenced_in_vain)}"
        if self.cold_starts_s:
            yield f"- a cold start of the engine, until its first token: {spread(self.cold_starts_s)} s"

    def _differences(self) -> Iterator[str]:
        told = [*(f"without any fault: {one}" for one in self.unsteady), *self.different]
        yield from ["", *(f"- {one}" for one in told)] if told else []


def recoveries(strikes: Sequence[Strike]) -> Iterator[str]:
    """Yield a table: where the time went per kind of fault, as median / worst."""
    yield "| fault | n | fenced | detect s | fence s | wait s | load s | first stream s | last stream s |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    groups: dict[FaultKind, list[Strike]] = defaultdict(list)
    for strike in strikes:
        groups[strike.fault.kind].append(strike)
    for kind in FaultKind:
        group = groups[kind]
        lines = [strike.recovery for strike in group if strike.recovery]
        spans = [[getattr(line, f"{name}_s") for line in lines] for name in ("detect", "fence", "wait", "load")]
        waits = [strike.streams_s for strike in group if strike.streams_s]
        cells = [spread(values) for values in [*spans, list(map(min, waits)), list(map(max, waits))]]
        if group:
            yield f"| {kind} | {len(group)} | {len(lines)} | {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """Return the median and the worst."""
    return f"{median(values):.2f} / {max(values):.2f}" if values else "–"
