"""Server-sent events as llama-server writes them (tools/server/server-common.cpp, format_oai_sse): pure, no I/O."""

import json
from dataclasses import dataclass
from typing import Any

END = b"\n\n"


class Splitter:
    """Cut a stream into whole events, whatever the pieces it comes in; joined again they are the same bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that ``data`` completes, each with its blank line."""
        *whole, self._rest = (self._rest + data).split(END)
        return [event + END for event in whole]

    def rest(self) -> bytes:
        """Return what is left of an unfinished event."""
        return self._rest


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name, its data as text, and that text as a JSON object where it is one."""

    name: str
    data: str
    value: dict[str, Any] | None


def parse(raw: bytes) -> Event | None:
    """Parse one event; None for a comment or an empty line, which say nothing."""
    name = ""
    data: list[str] = []
    for line in raw.decode(errors="replace").split("\n"):
        field, _, text = line.partition(":")
        if field == "event":
            name = text.removeprefix(" ")
        elif field == "data":
            data.append(text.removeprefix(" "))
    if not data:
        return None
    joined = "\n".join(data)
    return Event(name, joined, _object(joined))


def encode(name: str, value: dict[str, Any]) -> bytes:
    """Write one event the way the engine does."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


def comment(text: str) -> bytes:
    """Write a comment, which clients skip and proxies take for a sign of life."""
    return f": {text}\n\n".encode()


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
