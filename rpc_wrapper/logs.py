"""Logging without secrets, as text or JSON; and the last lines a child printed."""

import json
import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

_HIDDEN = "***"
_FIELDS = "fields"
_SECRET_FLAGS = frozenset({"--api-key", "--hf-token", "-hft"})
# Credentials by where they stand, for those that nobody announced.
_CREDENTIAL = re.compile(
    r"(?P<before>\bBearer\s+|\bx-api-key['\"]?\s*[:=]\s*['\"]?|--api-key[= ]|--hf-token[= ]|-hft )[^\s'\",]+",
    re.IGNORECASE,
)


class RingBuffer:
    """The last lines of something that prints without end."""

    def __init__(self, capacity: int) -> None:
        self._lines: deque[str] = deque(maxlen=capacity)

    def append(self, line: str) -> None:
        """Add a line, at the price of the oldest when full."""
        self._lines.append(line)

    def last(self, count: int) -> tuple[str, ...]:
        """Return at most ``count`` of the newest lines, oldest first."""
        return tuple(self._lines)[-count:] if count > 0 else ()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._lines))

    def __len__(self) -> int:
        return len(self._lines)


class Redactor:
    """Take secrets out of text: those it was told, and whatever stands where credentials stand."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = {secret for secret in secrets if secret}

    def add(self, secret: str) -> None:
        """Hide one more secret from now on: a key that was made at run time."""
        if secret:
            self._secrets.add(secret)

    def __call__(self, text: str) -> str:
        """Return the text with ``***`` in place of every secret, the longest first."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return _CREDENTIAL.sub(rf"\g<before>{_HIDDEN}", text)


redact = Redactor()  # the process's own: every log line and every snapshot passes through it


def redact_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """Return an argument list with the values of secret flags hidden, ``--flag value`` and ``--flag=value`` alike."""
    pairs = zip(("", *argv), argv, strict=False)  # each word with the one before it
    return tuple(_HIDDEN if before in _SECRET_FLAGS else redact(word) for before, word in pairs)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, who, what."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, its exception included, and hide every secret."""
        return redact(super().format(record))


class JSONFormatter(logging.Formatter):
    """One JSON object per line for machines: time (RFC 3339), level, logger, message, exception, and fields.

    Fields are what a caller gave as ``extra=fields(...)``; they never replace the five.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line, and hide every secret."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        given: dict[str, Any] = getattr(record, _FIELDS, {})
        shown = {name: redact(value) if isinstance(value, str) else value for name, value in given.items()}
        return json.dumps({**shown, **entry}, ensure_ascii=False, default=str)


def fields(**values: Any) -> dict[str, Any]:
    """Return the ``extra`` of a log call whose JSON line is to carry these values beside its sentence."""
    return {_FIELDS: values}


def set_up_logging(
    *,
    level: str = "INFO",
    form: Literal["text", "json"] = "text",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send every logger of this process to one stream (standard error by default), and hide the secrets in it."""
    for secret in secrets:
        redact.add(secret)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request of every heartbeat
