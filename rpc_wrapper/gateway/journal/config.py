"""The bounds of resuming."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResumeConfig:
    """How far to go for a request whose engine was lost; times in seconds.

    ``replay_tokens``: below so many delivered tokens the request is replayed even where prefill would do.
    ``attempts``: losses in a row without a new token for the client; each costs everybody a restart, should the request
    itself be the cause. ``wait_s``: the pause that they may add up to.
    """

    enabled: bool = True
    replay_tokens: int = 64
    attempts: int = 8
    wait_s: float = 600.0
    keepalive_s: float = 5.0
    max_entry_bytes: int = 16 * MIB
    max_journal_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """How long silence may last: ``floor + slack * work / speed``, and what speed to assume before one was measured."""

    prefill_floor_s: float = 30.0
    decode_floor_s: float = 20.0
    slack: float = 8.0
    assumed_prefill_tps: float = 20.0
    assumed_decode_tps: float = 2.0
