"""Count requests as they end, and pauses between tokens as they happen."""

import logging
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

from rpc_wrapper.gateway.visit import Visit
from rpc_wrapper.logs import fields
from rpc_wrapper.metrics.exposition import counter

access_log = logging.getLogger("rpc_wrapper.access")

# Language models: a first token takes between some milliseconds and, for a long prompt on CPUs, minutes.
_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30)
_DURATION_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
_QUEUE_S = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class RequestMetrics:
    """The figures of one gateway's requests, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = self._counter("requests", "Requests by endpoint and how they ended.", "endpoint", "outcome")
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that were answered, cached ones too.")
        self._delay_s = self._counter("token_delay_seconds", "Delay simulated before tokens (APP_TOKEN_DELAY_MAX_S).")
        self._duration_s = self._histogram(
            "request_duration_seconds", "From a request's first byte to its answer's last.", _DURATION_S, "endpoint"
        )
        self._ttft_s = self._histogram("ttft_seconds", "Time to the first token of a stream.", _TTFT_S, "endpoint")
        self._itl_s = self._histogram("itl_seconds", "Pause between two pieces of a stream, recoveries too.", _ITL_S)
        self._queue_s = self._histogram("queue_wait_seconds", "Wait for a slot before the engine is asked.", _QUEUE_S)

        self._ended_tokens = self._open_tokens = self._shown_tokens = 0
        self._n_streams = 0
        self._ttft_sum_s = self._undelayed_ttft_sum_s = self._delay_sum_s = 0.0

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"rpcw_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"rpcw_{name}", text, labels, buckets=buckets, registry=self._registry)

    def begin(self, visit: Visit) -> None:
        """Listen to the tokens of a request that has begun."""
        visit.on_tokens = self._came

    def _came(self, n_events: int, gap_s: float | None) -> None:
        self._open_tokens += n_events
        if gap_s is not None:
            self._itl_s.observe(gap_s)

    @property
    def tokens_total(self) -> int:
        """Return the tokens generated so far: the engine's count of what has ended, the events of what runs.

        It never falls, though some events hold no token.
        """
        self._shown_tokens = max(self._shown_tokens, self._ended_tokens + self._open_tokens)
        return self._shown_tokens

    def end(self, visit: Visit) -> None:
        """Count a request that has ended, and write its line in the access log."""
        self._requests.labels(visit.endpoint, visit.outcome.value).inc()
        if visit.is_work:
            self._duration_s.labels(visit.endpoint).observe(visit.duration_s)
        if visit.ttft_s is not None:
            self._ttft_s.labels(visit.endpoint).observe(visit.ttft_s)
            self._n_streams += 1
            self._ttft_sum_s += visit.ttft_s
            self._undelayed_ttft_sum_s += visit.ttft_s if visit.undelayed_ttft_s is None else visit.undelayed_ttft_s
        if visit.queued_s is not None:
            self._queue_s.observe(visit.queued_s)
        self._prompt_tokens.inc(visit.tokens.prompt or 0)
        self._open_tokens -= visit.n_events
        self._ended_tokens += visit.n_generated
        self._delay_s.inc(visit.total_delay_s)
        self._delay_sum_s += visit.total_delay_s
        log_access(visit)

    def streams(self) -> dict[str, float]:
        """Return how many streams there were and their average times, with the token delay and without it."""
        count = max(self._n_streams, 1)
        return {
            "count": self._n_streams,
            "ttft_avg": round(self._undelayed_ttft_sum_s / count, 4),
            "ttft_with_delay_avg": round(self._ttft_sum_s / count, 4),
            "total_delay": round(self._delay_sum_s, 4),
        }

    def families(self) -> Iterable[Metric]:
        """Return everything counted so far."""
        generated = counter("rpcw_generated_tokens_total", "Tokens generated for clients.", [({}, self.tokens_total)])
        return [*self._registry.collect(), generated]


def log_access(visit: Visit) -> None:
    """Write the line of one request."""
    level = logging.INFO if visit.is_notable else logging.DEBUG
    if access_log.isEnabledFor(level):
        access_log.log(level, "%s", _sentence(visit), extra=fields(**visit.to_json()))


def _sentence(visit: Visit) -> str:
    end = f"{visit.status or 'no answer'} {visit.outcome.value} in {visit.duration_s:.3f} s"
    parts = [f"{visit.method} {visit.endpoint}: {end}"]
    if visit.ttft_s is not None:
        parts.append(f"first token after {visit.ttft_s:.3f} s")
    if visit.n_generated:
        parts.append(f"{visit.n_generated} tokens")
    if visit.resumed:
        parts.append(f"resumed {visit.resumed}")
    return f"{', '.join(parts)} (request {visit.request_id})"
