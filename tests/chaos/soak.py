"""Ask a cluster for a long time, and see whether anything grows that should not."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from tests.chaos import census
from tests.chaos.cluster import Cluster
from tests.chaos.load import Load, questions
from tests.chaos.near_ties import parting

MIB = 1024 * 1024
CONSECUTIVE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """A cluster at one moment; memory in MiB, file descriptors of the server's own process."""

    minute: float
    requests: int
    server_mib: float
    engine_mib: float
    workers_mib: float
    backends_mib: float
    fds: int
    backend_fds: int
    journal_entries: int
    restarts: int

    def cells(self) -> list[str]:
        """Return a row of the table."""
        memory = (self.server_mib, self.engine_mib, self.backends_mib, self.workers_mib)
        counts = (self.fds, self.backend_fds, self.journal_entries, self.restarts)
        return [f"{self.minute:.0f}", str(self.requests), *(f"{mib:.1f}" for mib in memory), *map(str, counts)]


HEAD = (
    "minute",
    "requests",
    "server MiB",
    "llama-server MiB",
    "backends MiB",
    "workers MiB",
    "server fds",
    "backend fds",
    "journal",
    "restarts",
)


@dataclass(slots=True)
class Course:
    """How a soak went."""

    samples: list[Sample] = field(default_factory=list)
    n_done: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] | None = None  # unknown where no text was asked for twice

    def markdown(self) -> Iterator[str]:
        """Yield the table and what it says."""
        yield f"| {' | '.join(HEAD)} |"
        yield f"|{' ---: |' * len(HEAD)}"
        for sample in self.samples:
            yield f"| {' | '.join(sample.cells())} |"
        yield ""
        others = "" if self.different is None else f", {len(self.different)} with another text than alone"
        yield f"- {self.n_done} requests, {len(self.lost)} lost{others}"
        yield from (f"- {one}" for one in self.different or ())


async def sample(cluster: Cluster, began: float, requests: int) -> Sample:
    """Look at a cluster."""
    snapshot = await cluster.snapshot()
    backends = [backend.program.pid for backend in cluster.backends]
    workers = [worker for backend in cluster.backends if (worker := backend.worker()) is not None]
    engine = cluster.engine()
    return Sample(
        minute=(time.monotonic() - began) / 60,
        requests=requests,
        server_mib=_mib([cluster.server.pid]),
        engine_mib=_mib([engine] if engine else []),
        workers_mib=_mib(workers),
        backends_mib=_mib(backends),
        fds=census.count_fds(cluster.server.pid),
        backend_fds=sum(map(census.count_fds, backends)),
        journal_entries=snapshot["journal"]["entries"],
        restarts=snapshot["restarts"],
    )


def _mib(pids: Sequence[int]) -> float:
    """Return the resident memory of some processes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / MIB


async def consecutive(cluster: Cluster, count: int, tell: Callable[[str], None]) -> Course:
    """Ask so many prompts one after another, each a different one."""
    course, began = Course(), time.monotonic()
    for number in range(count):
        if number % max(1, count // 5) == 0:
            course.samples.append(await sample(cluster, began, number))
            tell(str(course.samples[-1]))
        body = {"prompt": f"On day {number} the little fox", "n_predict": CONSECUTIVE_TOKENS, "ignore_eos": True}
        answer = await cluster.http.post("/completion", json=body)
        value = answer.json()
        course.n_done += 1
        if answer.status_code != 200 or value["tokens_predicted"] != CONSECUTIVE_TOKENS:
            course.lost.append(f"prompt {number}: {answer.status_code} {answer.text[:200]}")
    course.samples.append(await sample(cluster, began, count))
    return course


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients that ask for so long; each thinks up to ``think_s`` after an answer."""

    minutes: float
    clients: int = 8
    think_s: float = 0.0


async def soak(cluster: Cluster, crowd: Crowd, tell: Callable[[str], None]) -> Course:
    """Let some clients ask all the time; look at the cluster before, once a minute, and when they have gone."""
    minutes = crowd.minutes
    load = Load(cluster.http, seed=1, asked=questions())
    await load.learn()
    course, began = Course(), time.monotonic()
    course.samples.append(await sample(cluster, began, 0))
    async with asyncio.TaskGroup() as tasks:
        for number in range(crowd.clients):
            tasks.create_task(load.client(number, crowd.think_s))
        while (passed_s := time.monotonic() - began) < 60 * minutes:
            await asyncio.sleep(min(60 - passed_s % 60, 60 * minutes - passed_s))
            course.samples.append(await sample(cluster, began, load.n_done))
            tell(str(course.samples[-1]))
        load.stopping = True
    await asyncio.sleep(2.0)  # the last connections close
    course.samples.append(await sample(cluster, began, load.n_done))
    course.n_done = load.n_done
    course.lost = [answer.why for answer in load.answers if answer.is_lost]
    different = [answer for answer in load.answers if load.is_different(answer)]
    course.different = [str(await parting(cluster.http, each, load.expected[each.question])) for each in different]
    return course
