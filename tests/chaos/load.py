"""Clients that ask without pause, know what they should get, and sometimes leave before they have it."""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

PROMPTS = ("Once upon a time", "The little fox", "In the garden", "Anna and the cat", "It was raining")
LONG_PROMPT = " ".join(f"{prompt} there was a friend who said so." for prompt in PROMPTS * 8)
STREAMED = (24, 60, 120, 240)  # tokens; those above APP_RESUME_REPLAY_TOKENS are prefilled, where that is possible
WHOLE = (24, 60)  # what is not streamed begins again with every loss
LEAVERS = 0.12  # share of the requests whose client does not wait for the end
LONGEST_STAY_S = 3.0
PROMPTED = ("/completion", "/v1/completions")
CHATS = ("/v1/chat/completions", "/v1/messages")
TOLERANCE = 1e-3  # of a number of an embedding
SHOWN = 300  # characters of an error


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a kind that is asked again and again."""

    path: str
    body: str  # JSON

    @property
    def value(self) -> dict[str, Any]:
        """Return the body."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def is_sampled(self) -> bool:
        """Tell whether its text is drawn, so that nobody can know it."""
        return bool(self.value.get("temperature"))

    def agrees(self, one: str, other: str) -> bool:
        """Tell whether two answers say the same."""
        if self.path != "/v1/embeddings":
            return one == other
        pairs = zip(json.loads(one), json.loads(other), strict=True)
        return all(abs(left - right) < TOLERANCE for left, right in pairs)


@dataclass(slots=True)
class Answer:
    """What came back: its text, when each piece came, how often it was resumed, and how it ended.

    ``ends`` counts everything that tells a client that it has all; ``has_left`` says that the client went first.
    """

    question: Question
    text: str = ""
    token_at: list[float] = field(default_factory=list)
    resumed: int = 0
    resumed_at: list[float] = field(default_factory=list)
    resumed_behind: list[int] = field(default_factory=list)  # characters delivered by then
    ends: int = 0
    says_more_after_end: bool = False
    status: int = 0
    error: str = ""
    has_left: bool = False
    is_over: bool = False

    @property
    def is_lost(self) -> bool:
        """Tell whether a client that waited did not get its whole answer, once."""
        return not self.has_left and (self.ends != 1 or bool(self.error) or self.says_more_after_end)

    @property
    def why(self) -> str:
        """Say what is wrong with it."""
        if self.error or self.ends == 1:
            return self.error or "it went on after its end"
        return "silent end" if not self.ends else f"it ended {self.ends} times"


def questions(prompts: Sequence[str] = PROMPTS) -> list[Question]:
    """Return every kind of request; all but the sampled ones have one right answer."""
    found = [question("/v1/embeddings", {"input": prompt}) for prompt in prompts]
    lengths = itertools.cycle(STREAMED)
    for prompt, whole in zip(prompts, itertools.cycle(WHOLE), strict=False):
        for path in (*PROMPTED, *CHATS):
            found.append(greedy(path, prompt, next(lengths), stream=True))
            found.append(greedy(path, prompt, next(lengths), stream=True))
            found.append(greedy(path, prompt, whole, stream=False))
        next(lengths)  # so that every endpoint has every length
    grammar = {"grammar": "root ::= ([a-z]+ [ ])+"}
    found.append(greedy("/completion", prompts[0], 120, stream=True, **grammar))
    found.append(greedy("/completion", LONG_PROMPT, 24, stream=True))
    sampled = {"temperature": 0.8, "stream": True}
    return [*found, *(question(path, _asking(path, prompts[-1], 120) | sampled) for path in PROMPTED)]


def long_questions(count: int = 40) -> list[Question]:
    """Return requests that are nearly all prompt, and share no beginning that the engine could keep."""
    return [greedy("/completion", f"{number} {LONG_PROMPT}", 24, stream=True) for number in range(count)]


def greedy(path: str, prompt: str, n_tokens: int, *, stream: bool, **more: Any) -> Question:
    """Return a request whose text follows from its prompt."""
    return question(path, _asking(path, prompt, n_tokens) | {"temperature": 0, "stream": stream} | more)


def question(path: str, body: Mapping[str, Any]) -> Question:
    """Return a request."""
    return Question(path, json.dumps(body))


def _asking(path: str, prompt: str, n_tokens: int) -> dict[str, Any]:
    if path in CHATS:
        return {"messages": [{"role": "user", "content": prompt}], "max_tokens": n_tokens}
    return {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True}


async def ask(http: httpx.AsyncClient, answer: Answer, heard: Callable[[], None], stay_s: float | None = None) -> None:
    """Ask once, and leave after ``stay_s``; ``heard`` is called with every line."""
    try:
        async with asyncio.timeout(stay_s):
            await _ask(http, answer, heard)
    except TimeoutError:
        answer.has_left = True
    except httpx.HTTPError as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.is_over = True
    heard()


async def _ask(http: httpx.AsyncClient, answer: Answer, heard: Callable[[], None]) -> None:
    clock, asked = asyncio.get_running_loop().time, answer.question.value
    async with http.stream("POST", answer.question.path, json=asked) as response:
        answer.status = response.status_code
        if response.status_code != 200:
            answer.error = f"{response.status_code}: {(await response.aread()).decode()[:SHOWN]}"
        elif asked.get("stream"):
            async for line in response.aiter_lines():
                take(answer, line, clock())
                heard()
        else:
            answer.text = text_of(json.loads(await response.aread()))
            answer.ends = 1
            answer.resumed = int(response.headers.get("x-resumed", 0))


def take(answer: Answer, line: str, now: float) -> None:
    """Put one line of a stream, which came at ``now``, into the answer."""
    answer.says_more_after_end |= bool(answer.ends and line)
    if line.startswith(": resumed "):
        answer.resumed = int(line.removeprefix(": resumed "))
        answer.resumed_at.append(now)
        answer.resumed_behind.append(len(answer.text))
    elif line == "data: [DONE]":
        answer.ends += 1
    elif line.startswith("data: "):
        value = json.loads(line.removeprefix("data: "))
        if "error" in value:
            answer.error = json.dumps(value["error"])[:SHOWN]
        answer.ends += value.get("stop") is True or value.get("type") == "message_stop"
        text = text_of(value)
        if text:
            answer.text += text
            answer.token_at.append(now)


def text_of(value: Mapping[str, Any]) -> str:
    """Return the text of an answer or of one event of it, whatever the API; numbers of an embedding as JSON."""
    for item in value.get("data", []):
        return json.dumps(item["embedding"])
    for choice in value.get("choices", []):
        said = choice.get("message", choice.get("delta", choice))
        return said.get("content") or said.get("text") or ""
    if isinstance(value.get("delta"), dict):
        return str(value["delta"].get("text") or "")
    content = value.get("content", "")
    if isinstance(content, list):  # a whole message of /v1/messages
        return "".join(str(block.get("text", "")) for block in content)
    return str(content)


class Load:
    """Clients, each asking one question after another until told to stop."""

    def __init__(self, http: httpx.AsyncClient, seed: int, asked: Sequence[Question]) -> None:
        self._http = http
        self._seed = seed
        self._asked = asked
        self.expected: dict[Question, str] = {}
        self.answers: list[Answer] = []
        self.n_done = 0
        self.stopping = False
        self._said = asyncio.Event()

    async def next_sign(self) -> None:
        """Wait until any client has got something, its last event included."""
        self._said.clear()
        await self._said.wait()

    async def more_answers(self, count: int) -> None:
        """Wait until so many more answers have ended."""
        wanted = self.n_done + count
        while self.n_done < wanted:
            await self.next_sign()

    def streams(self) -> list[Answer]:
        """Return the answers that are in the middle of their text."""
        recent = self.answers[-4 * len(self.expected) :]
        return [answer for answer in recent if answer.token_at and not answer.is_over and not answer.has_left]

    async def learn(self) -> None:
        """Ask every question once, one after another, without faults."""
        for asked in self._asked:
            answer = Answer(asked)
            await ask(self._http, answer, self._said.set)
            assert not answer.is_lost, f"{asked.path} {asked.body} failed without any fault: {answer.why}"
            self.expected[asked] = answer.text

    def is_different(self, answer: Answer) -> bool:
        """Tell whether a whole answer says something else than without faults."""
        if answer.has_left or answer.is_lost or answer.question.is_sampled:
            return False
        return not answer.question.agrees(answer.text, self.expected[answer.question])

    async def together(self, n_clients: int) -> list[Answer]:
        """Ask every question once more, several at a time and still without faults; return what differs."""
        left = iter(self._asked)
        answers: list[Answer] = []

        async def client() -> None:
            for asked in left:
                answers.append(Answer(asked))
                await ask(self._http, answers[-1], self._said.set)

        await asyncio.gather(*(client() for _ in range(n_clients)))
        for answer in answers:
            assert not answer.is_lost, f"{answer.question.path} failed without any fault: {answer.why}"
        return [answer for answer in answers if self.is_different(answer)]

    async def client(self, number: int, think_s: float = 0.0) -> None:
        """Ask in an order of one's own, with a pause of up to ``think_s`` after each answer."""
        random = Random(f"{self._seed}/{number}")
        known = list(self.expected)
        while not self.stopping:
            stay_s = random.uniform(0.0, LONGEST_STAY_S) if random.random() < LEAVERS else None
            await self.one(random.choice(known), stay_s)
            await asyncio.sleep(random.uniform(0.0, think_s))

    async def one(self, asked: Question, stay_s: float | None = None) -> Answer:
        """Ask one question, and keep the answer in the account."""
        answer = Answer(asked)
        self.answers.append(answer)
        await ask(self._http, answer, self._said.set, stay_s)
        self.n_done += 1
        self._said.set()
        return answer
