"""The ways out when a model does not fit: each is tried for real before it is offered."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner.memory import CELL_PADDING, Workload
from rpc_wrapper.planner.plan import Plan, PlanOptions
from rpc_wrapper.planner.profile import ModelProfile
from rpc_wrapper.planner.strategies import Strategy

Place = Callable[[ModelProfile, Sequence[Device], Workload, PlanOptions], Plan]
MAX_REMEDIES = 3
MIN_CTX = 512  # a smaller context is no way out
BIG = 1 << 50


def find(
    place: Place, profile: ModelProfile, devices: Sequence[Device], workload: Workload, options: PlanOptions
) -> tuple[str, ...]:
    """Return up to three sentences, the cheapest way out first; more memory, which costs money, is always the last."""
    attempt = _Attempt(place, profile, tuple(devices), workload, options)
    cheap = [way for way in (attempt.strategy(), attempt.cache_type(), attempt.slots(), attempt.context()) if way]
    memory = attempt.backend()
    keep = MAX_REMEDIES - (memory is not None)
    return (*cheap[:keep], *([memory] if memory else []))


def sentence(error: DoesNotFit, ways: Sequence[str]) -> str:
    """Say what is missing where, and what to do."""
    hint = "; or ".join(ways) if ways else "use a smaller model"
    return f"the model does not fit: {error}. Way out: {hint}"


def mib(size_bytes: int) -> int:
    """Return whole MiB, rounded up."""
    return -(-size_bytes // MIB)


class _Attempt:
    """One refused request, to be varied."""

    def __init__(
        self,
        place: Place,
        profile: ModelProfile,
        devices: tuple[Device, ...],
        workload: Workload,
        options: PlanOptions,
    ) -> None:
        self._place = place
        self._profile = profile
        self._devices = devices
        self._workload = workload
        self._options = options

    def strategy(self) -> str | None:
        """Try the strategy that fits whenever one does."""
        if self._options.strategy in (Strategy.MEMORY, Strategy.LOCAL):
            return None
        options = replace(self._options, strategy=Strategy.MEMORY, boundaries=(), device=None)
        return "use --strategy memory" if self._fits(options=options) else None

    def cache_type(self) -> str | None:
        """Try a quantised KV cache."""
        if not self._workload.flash_attn:
            return None
        for kind in ("q8_0", "q4_0"):
            workload = replace(self._workload, cache_type_k=kind, cache_type_v=kind)
            if workload != self._workload and self._fits(workload):
                return f"use --cache-type-k {kind} --cache-type-v {kind}"
        return None

    def slots(self) -> str | None:
        """Try fewer slots."""
        n = _most(1, self._workload.n_parallel - 1, lambda n: self._fits(replace(self._workload, n_parallel=n)))
        return f"use --parallel {n} instead of {self._workload.n_parallel}" if n else None

    def context(self) -> str | None:
        """Try a smaller context."""
        now = self._workload.cells_per_stream(self._profile) // CELL_PADDING

        def fits(n: int) -> bool:
            return self._fits(replace(self._workload, ctx_size=n * CELL_PADDING))

        n = _most(MIN_CTX // CELL_PADDING, now - 1, fits)
        return f"use --ctx-size {n * CELL_PADDING} instead of {now * CELL_PADDING}" if n else None

    def backend(self) -> str | None:
        """Look for the smallest backend that would do when added."""
        if self._options.strategy in (Strategy.CUSTOM, Strategy.SINGLE_DEVICE, Strategy.LOCAL):
            return None
        spare = max(mib(BIG) // 1024, 1)
        n = _least(1, spare, lambda n: self._fits(extra=n * MIB))
        return f"add a backend of {n} MiB" if n else None

    def _fits(
        self, workload: Workload | None = None, options: PlanOptions | None = None, extra: int | None = None
    ) -> bool:
        devices = self._devices
        if extra is not None:
            devices = (*devices, Device("RPC(new)", extra, Endpoint("new", 50052)))
        try:
            self._place(self._profile, devices, workload or self._workload, options or self._options)
        except PlanError:
            return False
        return True


def _most(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest number in a range that fits, when smaller ones fit whenever a larger does."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _least(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """Return the smallest number in a range that fits, when larger ones fit whenever a smaller does."""
    if not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low
