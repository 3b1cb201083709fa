"""How fast this cluster reads and writes, as measured on the requests themselves: pure."""

from dataclasses import dataclass

WEIGHT = 0.3  # of the newest measurement: a plan that changed shows after a few


@dataclass(slots=True)
class Speeds:
    """Tokens per second of prefill and decode; None until measured."""

    prefill_tps: float | None = None
    decode_tps: float | None = None

    def note_prefill(self, n_tokens: int, spent_s: float) -> None:
        """Take in that so many prompt tokens were read in that time."""
        self.prefill_tps = _mixed(self.prefill_tps, n_tokens, spent_s)

    def note_decode(self, n_tokens: int, spent_s: float) -> None:
        """Take in that so many tokens of one stream came out in that time."""
        self.decode_tps = _mixed(self.decode_tps, n_tokens, spent_s)


def _mixed(old_tps: float | None, n_tokens: int, spent_s: float) -> float | None:
    if n_tokens <= 0 or spent_s <= 0:
        return old_tps
    new_tps = n_tokens / spent_s
    return new_tps if old_tps is None else (1 - WEIGHT) * old_tps + WEIGHT * new_tps
