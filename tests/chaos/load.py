"""Clients that ask without pause, and know what they should get."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

PROMPTS = ("Once upon a time", "The little fox", "In the garden", "Anna and the cat", "It was raining")
N_TOKENS = (24, 60, 120)
LONGEST_WHOLE = 60  # what is not streamed begins again with every loss


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


@dataclass(slots=True)
class Answer:
    """What came back: its text, when each piece came, how often it was resumed, and how it ended."""

    question: Question
    text: str = ""
    token_at: list[float] = field(default_factory=list)
    resumed: int = 0
    resumed_at: list[float] = field(default_factory=list)
    is_whole: bool = False
    error: str = ""


def questions() -> list[Question]:
    """Return every kind of request: greedy, so that its text is known."""
    found = []
    for prompt in PROMPTS:
        for n_tokens in N_TOKENS:
            chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": n_tokens}
            plain = {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True}
            for path, body in (("/completion", plain), ("/v1/completions", plain), ("/v1/chat/completions", chat)):
                found.append(_question(path, body, stream=True))
                if n_tokens <= LONGEST_WHOLE:
                    found.append(_question(path, body, stream=False))
            found.append(_question("/v1/messages", chat, stream=True))
    return found


def _question(path: str, body: dict[str, Any], *, stream: bool) -> Question:
    return Question(path, json.dumps({**body, "temperature": 0, "stream": stream}))


async def ask(http: httpx.AsyncClient, answer: Answer, said: asyncio.Event) -> None:
    """Ask once; an answer that is not whole says why. ``said`` is set with every line."""
    clock, question = asyncio.get_running_loop().time, answer.question
    try:
        async with http.stream("POST", question.path, json=question.value) as response:
            if response.status_code != 200:
                answer.error = f"{response.status_code}: {(await response.aread()).decode()[:300]}"
            elif question.value["stream"]:
                async for line in response.aiter_lines():
                    _take(answer, line, clock())
                    said.set()
            else:
                answer.text, answer.is_whole = text_of(json.loads(await response.aread())), True
                answer.resumed = int(response.headers.get("x-resumed", 0))
    except httpx.HTTPError as error:
        answer.error = f"{type(error).__name__}: {error}"
    if not answer.is_whole and not answer.error:
        answer.error = "silent end"
    said.set()


def _take(answer: Answer, line: str, now: float) -> None:
    if line.startswith(": resumed "):
        answer.resumed = int(line.removeprefix(": resumed "))
        answer.resumed_at.append(now)
    elif line == "data: [DONE]":
        answer.is_whole = True
    elif line.startswith("data: "):
        value = json.loads(line.removeprefix("data: "))
        if "error" in value:
            answer.error = json.dumps(value["error"])[:300]
        answer.is_whole |= value.get("stop") is True or value.get("type") == "message_stop"
        text = text_of(value)
        if text:
            answer.text += text
            answer.token_at.append(now)


def text_of(value: Mapping[str, Any]) -> str:
    """Return the text of an answer or of one event of it, whatever the API."""
    for choice in value.get("choices", []):
        said = choice.get("message", choice.get("delta", choice))
        return said.get("content") or said.get("text") or ""
    if isinstance(value.get("delta"), dict):
        return str(value["delta"].get("text") or "")
    content = value.get("content", "")
    return content if isinstance(content, str) else ""


class Load:
    """Clients, each asking one question after another until told to stop."""

    def __init__(self, http: httpx.AsyncClient, seed: int) -> None:
        self._http = http
        self._seed = seed
        self.expected: dict[Question, str] = {}
        self.done: list[Answer] = []
        self.answers: list[Answer] = []
        self.stopping = False
        self._said = asyncio.Event()

    async def next_token(self) -> None:
        """Wait until any client has got something, its last event included."""
        self._said.clear()
        await self._said.wait()

    async def more_answers(self, count: int) -> None:
        """Wait until so many more answers have ended."""
        wanted = len(self.done) + count
        while len(self.done) < wanted:
            await self.next_token()

    async def learn(self) -> None:
        """Ask every question once without faults."""
        for question in questions():
            answer = Answer(question)
            await ask(self._http, answer, self._said)
            assert answer.is_whole, f"{question.path} failed without any fault: {answer.error}"
            self.expected[question] = answer.text

    async def client(self, number: int) -> None:
        """Ask in an order of one's own."""
        random = Random(f"{self._seed}/{number}")
        known = list(self.expected)
        while not self.stopping:
            answer = Answer(random.choice(known))
            self.answers.append(answer)
            await ask(self._http, answer, self._said)
            self.done.append(answer)
            self._said.set()
