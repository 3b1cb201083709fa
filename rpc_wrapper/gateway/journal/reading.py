"""What one event of llama-server's streams says, whichever API it speaks (tools/server/server-task.cpp): pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rpc_wrapper.gateway.endpoints import Shape
from rpc_wrapper.gateway.journal.sse import Event, parse


class Dialect(StrEnum):
    """The API that a stream speaks."""

    NATIVE = "native"  # /completion and /infill
    TEXT = "text"  # /v1/completions
    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    OTHER = "other"


class Nature(StrEnum):
    """What an event is for."""

    COMMENT = "comment"
    PROGRESS = "progress"  # of the prompt; says nothing to the client
    PART = "part"
    LAST = "last"  # of one completion, with its reason and its numbers
    DONE = "done"  # nothing comes after it
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Reading:
    """One event: what it is, what it says apart from names and numbers, and the tokens it stands for.

    ``key`` tells the parallel completions of one request apart. ``essence`` is equal in every run that generates the
    same tokens; ``names`` are the random ids of this run, in order. ``predicted`` counts the tokens up to here.
    """

    nature: Nature
    event: Event | None = None
    key: int | None = None
    essence: bytes = b""
    names: tuple[str, ...] = ()
    text: str = ""
    token: int | None = None
    predicted: int | None = None
    progress: tuple[int, int] | None = None


COMMENT = Reading(Nature.COMMENT)

_NAMES = frozenset({"id", "item_id", "call_id"})
# Numbers, times and places differ from run to run, and so does the last bit of a probability.
_VOLATILE = _NAMES | {
    "completion_probabilities",
    "created",
    "created_at",
    "generation_settings",
    "id_slot",
    "logprobs",
    "prompt",
    "prompt_progress",
    "resumed",
    "system_fingerprint",
    "timings",
    "tokens_cached",
    "tokens_evaluated",
    "usage",
    "__verbose",
}


def dialect_of(shape: Shape, path: str) -> Dialect:
    """Return which API an endpoint's streams speak."""
    match shape:
        case Shape.COMPLETION:
            return Dialect.TEXT if path == "/v1/completions" else Dialect.NATIVE
        case Shape.INFILL:
            return Dialect.NATIVE
        case Shape.CHAT | Shape.MESSAGES | Shape.RESPONSES:
            return Dialect(shape.value)
        case _:
            return Dialect.OTHER


def read(raw: bytes, dialect: Dialect) -> Reading:
    """Read one whole event."""
    event = parse(raw)
    if event is None:
        return COMMENT
    value = event.value
    if value is None:
        return Reading(Nature.DONE if event.data == "[DONE]" else Nature.PART, event, essence=event.data.encode())
    if "error" in value and value.get("type", "error") == "error" and "choices" not in value:
        return Reading(Nature.ERROR, event)
    if "prompt_progress" in value:
        return Reading(Nature.PROGRESS, event, progress=_progress(value["prompt_progress"]))
    return _part(event, value, dialect)


def walk_names(value: Any) -> list[str]:
    """Return every random id in a value, in order."""
    if isinstance(value, dict):
        found: list[str] = []
        for key, item in value.items():
            found += [item] if key in _NAMES and isinstance(item, str) else walk_names(item)
        return found
    return [name for item in value for name in walk_names(item)] if isinstance(value, list) else []


def rename(value: Any, aliases: Mapping[str, str]) -> Any:
    """Return a value with other ids in it."""
    if isinstance(value, dict):
        return {
            key: aliases.get(item, item) if key in _NAMES and isinstance(item, str) else rename(item, aliases)
            for key, item in value.items()
        }
    return [rename(item, aliases) for item in value] if isinstance(value, list) else value


def numbers_of(value: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an event in llama-server's native form, which /v1/completions adds when verbose."""
    verbose = value.get("__verbose")
    return verbose if isinstance(verbose, dict) else value


def _part(event: Event, value: dict[str, Any], dialect: Dialect) -> Reading:
    numbers = numbers_of(value)
    tokens = numbers.get("tokens") or []
    predicted = numbers.get("tokens_predicted")
    return Reading(
        nature=_nature(value, dialect),
        event=event,
        key=_key(value),
        essence=_essence(value),
        names=tuple(walk_names(value)),
        text=_text(value),
        token=tokens[0] if len(tokens) == 1 and isinstance(tokens[0], int) else None,
        predicted=predicted if isinstance(predicted, int) else None,
    )


def _nature(value: dict[str, Any], dialect: Dialect) -> Nature:
    kind = value.get("type")
    match dialect:
        case Dialect.NATIVE:
            return Nature.LAST if value.get("stop") is True else Nature.PART
        case Dialect.TEXT | Dialect.CHAT:
            ended = any(choice.get("finish_reason") for choice in value.get("choices", []))
            return Nature.LAST if ended or "usage" in value else Nature.PART
        case Dialect.MESSAGES:
            return {"message_delta": Nature.LAST, "message_stop": Nature.DONE}.get(str(kind), Nature.PART)
        case _:
            return Nature.DONE if kind == "response.completed" else Nature.PART


def _key(value: dict[str, Any]) -> int | None:
    choices = value.get("choices")
    found = choices[0].get("index") if choices else value.get("index")
    return found if isinstance(found, int) else None


def _text(value: dict[str, Any]) -> str:
    """Return the text that the client sees in this event."""
    for choice in value.get("choices", []):
        delta = choice.get("delta", choice)
        return str(delta.get("text") or delta.get("content") or delta.get("reasoning_content") or "")
    delta = value.get("delta", value)
    if isinstance(delta, dict):
        content = delta.get("content") or delta.get("text") or delta.get("thinking")
        return content if isinstance(content, str) else ""
    return str(delta)


def _progress(value: Any) -> tuple[int, int] | None:
    try:
        return int(value["processed"]), int(value["total"])
    except (KeyError, TypeError, ValueError):
        return None


def _essence(value: Any) -> bytes:
    return json.dumps(_stable(value), ensure_ascii=False, separators=(",", ":")).encode()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value
