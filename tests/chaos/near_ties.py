"""Where a text left the fault-free one, and how close the two tokens were that it had to choose from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import httpx

from tests.chaos.load import CHATS, Answer, Question

NEAR = 0.1  # nats between the two likeliest tokens: their probabilities differ by a tenth at most


@dataclass(frozen=True, slots=True)
class Parting:
    """A difference: after how many characters, whether behind a cut, and the gap in log probability there."""

    answer: Answer
    at: int
    gap: float | None

    @property
    def is_behind_a_cut(self) -> bool:
        """Tell whether everything before the first resumption is as it should be."""
        return bool(self.answer.resumed_behind) and self.at >= self.answer.resumed_behind[0]

    @property
    def is_near_tie(self) -> bool:
        """Tell whether the choice was a close one."""
        return self.gap is not None and self.gap < NEAR

    def __str__(self) -> str:
        where = f"behind the cut at {self.answer.resumed_behind}" if self.is_behind_a_cut else "without a cut before it"
        gap = "an unknown gap" if self.gap is None else f"a gap of {self.gap:.4f} nats between the two likeliest tokens"
        asked = self.answer.question
        return f"{asked.path} {asked.body[:90]}… leaves the text at character {self.at}, {where}, at {gap}"


async def parting(http: httpx.AsyncClient, answer: Answer, expected: str) -> Parting:
    """Return where an answer left the expected text, and ask the engine how close that was."""
    at = common(answer.text, expected)
    return Parting(answer, at, await _gap(http, answer.question, at))


def common(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


async def _gap(http: httpx.AsyncClient, asked: Question, at: int) -> float | None:
    """Ask the same again, with probabilities; return the gap at the token that holds that character."""
    if asked.path == "/v1/embeddings":
        return None
    value = asked.value
    if asked.path in CHATS:
        reply = await http.post("/apply-template", json={"messages": value["messages"]})
        value = {"prompt": reply.json()["prompt"], "n_predict": value["max_tokens"]}
    body = {**value, "temperature": 0, "stream": False, "n_probs": 2}
    tokens = (await http.post("/completion", content=json.dumps(body))).json()["completion_probabilities"]
    return gap_at(tokens, at)


def gap_at(tokens: Sequence[dict[str, Any]], at: int) -> float | None:
    """Return the gap between the two likeliest tokens where the text has reached character ``at``."""
    reached = b""
    for token in tokens:
        reached += bytes(token["bytes"])
        if len(reached.decode(errors="ignore")) > at:
            first, second = token["top_logprobs"][:2]
            return float(first["logprob"] - second["logprob"])
    return None
