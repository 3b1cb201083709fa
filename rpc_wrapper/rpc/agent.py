"""What the agent beside a backend says about it: the body of its ``GET /status``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rpc_wrapper.usage import GPU

_NUMBERS = ("pid", "budget_bytes", "uptime_s", "restarts", "cpu_s", "rss_bytes")
_WORDS = ("reason", "process", "last_exit")


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One backend as its agent sees it; a field it did not send is None, or empty.

    ``device_names`` are in the order of the wire, ``process`` is the kernel's word for the worker's process;
    ``cpu_s`` and ``rss_bytes`` are what that process has used of the processor and holds in memory; ``holder`` is the
    address of the llama-server that the backend serves, which is another than the one that asks when it
    ``is_held_by_another``; ``gpus`` are all of its machine.
    """

    state: str
    pid: int | None = None
    budget_bytes: int | None = None
    uptime_s: float | None = None
    device_names: tuple[str, ...] = ()
    reason: str | None = None
    process: str | None = None
    last_exit: str | None = None
    restarts: int | None = None
    cpu_s: float | None = None
    rss_bytes: int | None = None
    holder: str | None = None
    is_held_by_another: bool = False
    gpus: tuple[GPU, ...] = ()

    @classmethod
    def from_json(cls, body: object) -> Self | None:
        """Read the body of ``GET /status``; return None when no agent would have written it."""
        if not isinstance(body, Mapping) or not isinstance(body.get("state"), str):
            return None
        numbers = {name: body.get(name) for name in _NUMBERS}
        words = {name: body.get(name) for name in _WORDS}
        gate = body.get("gate")
        words["holder"] = gate.get("holder") if isinstance(gate, Mapping) else None
        names, is_anothers = body.get("devices", ()), body.get("held_by_another", False)
        if not all(number is None or _is_amount(number) for number in numbers.values()):
            return None
        if not all(word is None or isinstance(word, str) for word in words.values()) or not _are_words(names):
            return None
        if not isinstance(is_anothers, bool):
            return None
        gpus = _gpus(body.get("gpus", ()))
        if gpus is None:
            return None
        return cls(
            body["state"], device_names=tuple(names), is_held_by_another=is_anothers, gpus=gpus, **numbers, **words
        )


def _is_amount(number: object) -> bool:
    return type(number) in (int, float) and number >= 0  # type: ignore[operator]


def _gpus(listed: object) -> tuple[GPU, ...] | None:
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        return None
    found = [GPU.from_json(each) for each in listed]
    return tuple(each for each in found if each is not None) if all(found) else None


def _are_words(names: object) -> bool:
    return isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
