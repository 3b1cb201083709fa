"""Keep the account of one chaos run, and make its figures. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.figures import Figures, Strike
from tests.chaos.load import Answer
from tests.chaos.near_ties import Parting
from tests.chaos.timeline import Timeline

FD_SLACK = 3  # a question of ours that was still being answered when we counted
SHOWN = 200  # characters of a request


@dataclass(slots=True)
class Account:
    """What a run has shown; ``partings`` are the texts that are not those of a run without faults."""

    strikes: list[Strike] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unsteady: list[Parting] = field(default_factory=list)  # before any fault, with several clients at once
    partings: list[Parting] = field(default_factory=list)
    cold_start: Timeline | None = None
    stuck: str = ""  # the fault that the cluster did not get over
    journal_entries: int = 0
    fds: dict[str, tuple[int, int]] = field(default_factory=dict)  # per program: before, after
    wall_s: float = 0.0

    @property
    def lost(self) -> list[Answer]:
        """Return the requests whose client waited, and did not get its whole answer once."""
        return [answer for answer in self.answers if answer.is_lost]

    def figures(self) -> Figures:
        """Return what it comes to."""
        stayed = [answer for answer in self.answers if not answer.has_left]
        greedy = [answer for answer in stayed if not answer.is_lost and not answer.question.is_sampled]
        return Figures(
            strikes=tuple(self.strikes),
            requests=len(self.answers),
            left=len(self.answers) - len(stayed),
            resumed=sum(bool(answer.resumed) for answer in self.answers),
            greedy=len(greedy),
            explained=sum(parting.is_behind_a_cut and parting.is_near_tie for parting in self.partings),
            wall_s=self.wall_s,
            lost=tuple(f"{one.question.path} {one.question.body[:SHOWN]}: {one.why}" for one in self.lost),
            different=tuple(map(str, self.partings)),
            unsteady=tuple(map(str, self.unsteady)),
            leaked=tuple(self._leaked()),
            stuck=(self.stuck,) if self.stuck else (),
            cold_starts_s=(self.cold_start.load_s,) if self.cold_start else (),
        )

    def _leaked(self) -> Iterator[str]:
        for name, (before, after) in self.fds.items():
            if after > before + FD_SLACK:
                yield f"{name} holds {after} file descriptors, before the faults {before}"
        if self.journal_entries:
            yield f"{self.journal_entries} journal entries"
