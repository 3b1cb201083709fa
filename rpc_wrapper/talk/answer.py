"""Read a streamed answer piece by piece, and say how long it took."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from rpc_wrapper.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Delta:
    """One event of a stream: its text, the tokens generated so far if told, how often the answer was resumed.

    ``is_last`` marks the end; a stream without one was cut.
    """

    text: str = ""
    n_tokens: int | None = None
    resumed: int = 0
    is_last: bool = False


def read_line(line: str) -> Delta | None:
    """Return the event in a line of a stream (WHATWG HTML, 9.2), None when it holds none; raise UpstreamError.

    Knows llama-server's ``/completion`` and OpenAI's chat chunks, and the gateway's errors in both.
    """
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:"):
        return None
    if data == "[DONE]":
        return Delta(is_last=True)
    try:
        event = json.loads(data)
    except ValueError:
        raise UpstreamError(f"the server streamed something that is no JSON: {data[:100]!r}") from None
    if not isinstance(event, dict):
        raise UpstreamError(f"the server streamed JSON that is no object: {data[:100]!r}")
    if "error" in event:
        raise UpstreamError(error_text(event))
    timings = event.get("timings") or {}
    n_tokens = event.get("tokens_predicted", timings.get("predicted_n"))
    return Delta(_text(event), n_tokens, int(event.get("resumed", 0)), bool(event.get("stop", False)))


def _text(event: Mapping[str, Any]) -> str:
    if "choices" not in event:
        return str(event.get("content") or "")
    deltas = [choice.get("delta") or {} for choice in event["choices"]]
    return "".join(str(delta.get("reasoning_content") or "") + str(delta.get("content") or "") for delta in deltas)


def error_text(value: object) -> str:
    """Return the sentence in an error's body, whichever of the usual forms it has."""
    error = value.get("error", value) if isinstance(value, dict) else value
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:500]


def printable(text: str) -> str:
    """Return text without the control characters that would move or recolour a terminal."""
    return "".join(each for each in text if each in "\n\t" or category(each) != "Cc")


@dataclass(frozen=True, slots=True)
class Times:
    """How long one answer took, in seconds from when it was asked."""

    ttft_s: float
    total_s: float
    n_tokens: int
    resumed: int = 0

    @property
    def tokens_per_s(self) -> float:
        """Return generated tokens per second of the whole answer, the wait for the first included."""
        return self.n_tokens / self.total_s if self.total_s > 0 else 0.0

    def __str__(self) -> str:
        text = f"first token {self.ttft_s:.2f} s, {self.n_tokens} tokens in {self.total_s:.2f} s"
        text += f", {self.tokens_per_s:.1f} tokens/s"
        return text + (f", resumed {self.resumed} times" if self.resumed else "")


def totals(answers: Sequence[Times]) -> Times:
    """Return all answers together: their mean wait for the first token, their sums of tokens and time."""
    count = max(len(answers), 1)
    return Times(
        sum(each.ttft_s for each in answers) / count,
        sum(each.total_s for each in answers),
        sum(each.n_tokens for each in answers),
        sum(each.resumed for each in answers),
    )
