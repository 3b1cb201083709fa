"""One chaos run: clients that ask, faults that strike, and the account of it."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median

from tests.chaos.cluster import SERVER, Cluster, FaultKind
from tests.chaos.load import Answer, Load, Question

CLIENTS = 4
ANSWERS_PER_FAULT = 5


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault: when it struck, and which streams were running."""

    kind: FaultKind
    at: float
    running: tuple[Answer, ...]
    evicted: bool

    @property
    def recovery_s(self) -> float | None:
        """Return how long the slowest of the running streams waited for its next token; None when none was cut."""
        waits = [later[0] - self.at for answer in self.running if (later := self._after(answer))]
        return max(waits) if waits else None

    def _after(self, answer: Answer) -> list[float]:
        resumed = [moment for moment in answer.resumed_at if moment >= self.at]
        since = resumed[0] if resumed else self.at if self.kind is FaultKind.BLIP_WORKER else None
        return [moment for moment in answer.token_at if since is not None and moment >= since]


@dataclass(slots=True)
class Account:
    """What a run has shown."""

    strikes: list[Strike] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    expected: dict[Question, str] = field(default_factory=dict)
    leaked_entries: int = 0

    @property
    def lost(self) -> list[Answer]:
        """Return the requests without their whole answer."""
        return [answer for answer in self.answers if not answer.is_whole or answer.error]

    @property
    def different(self) -> list[Answer]:
        """Return the whole answers that say something else than without faults."""
        return [one for one in self.answers if one.is_whole and one.text != self.expected[one.question]]

    @property
    def resumed(self) -> list[Answer]:
        """Return the requests that outlived an engine."""
        return [answer for answer in self.answers if answer.resumed]

    def table(self) -> str:
        """Return the account in Markdown."""
        same = len(self.answers) - len(self.lost) - len(self.different)
        lines = [
            f"{len(self.strikes)} faults, {len(self.answers)} requests: {len(self.lost)} lost, "
            f"{len(self.resumed)} resumed, {same} identical, {len(self.different)} different; "
            f"{self.leaked_entries} journal entries left",
            "",
            "| fault | n | engine evicted | next token, median s | worst s |",
            "|---|---|---|---|---|",
        ]
        strikes = defaultdict(list)
        for strike in self.strikes:
            strikes[strike.kind].append(strike)
        for kind, group in strikes.items():
            times = [strike.recovery_s for strike in group if strike.recovery_s is not None]
            spread = f"{median(times):.2f} | {max(times):.2f}" if times else "- | -"
            lines.append(f"| {kind} | {len(group)} | {sum(strike.evicted for strike in group)} | {spread} |")
        return "\n".join(lines)


async def experiment(cluster: Cluster, kinds: Sequence[FaultKind], seed: int, clients: int = CLIENTS) -> Account:
    """Strike once per kind given, each time when streams are running and the cluster was well."""
    load = Load(cluster.http, seed)
    await load.learn()
    account = Account(expected=load.expected)
    random = Random(seed)
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(load.client(number))
        try:
            for kind in kinds:
                account.strikes.append(await _strike(cluster, load, kind, random))
        finally:
            load.stopping = True
    account.answers = load.done
    account.leaked_entries = (await cluster.journal()).get("entries", 0)
    return account


async def _strike(cluster: Cluster, load: Load, kind: FaultKind, random: Random) -> Strike:
    await load.more_answers(ANSWERS_PER_FAULT)
    await asyncio.sleep(random.uniform(0.0, 1.0))
    while not (running := _streams(load)):
        await load.next_token()
    servers = {child.pid for child in cluster.children(SERVER)}
    at = asyncio.get_running_loop().time()
    await cluster.inject(kind, random)
    if kind is not FaultKind.BLIP_WORKER:
        while not all(_has_news(answer, at) for answer in running):
            await load.next_token()
    await cluster.wait_ready()
    return Strike(kind, at, tuple(running), servers != {child.pid for child in cluster.children(SERVER)})


def _streams(load: Load) -> list[Answer]:
    """Return the streams that are in the middle of their text."""
    done = {id(answer) for answer in load.done[-64:]}
    recent = load.answers[-16:]
    return [answer for answer in recent if answer.token_at and id(answer) not in done]


def _has_news(answer: Answer, at: float) -> bool:
    ended = answer.is_whole or bool(answer.error)
    return ended or any(moment >= at for moment in answer.resumed_at)
