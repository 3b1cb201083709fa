"""Write metric families as Prometheus reads them, or say that a client would rather have JSON. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

Labels = Mapping[str, str]
Rows = Iterable[tuple[Labels, float | None]]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_TEXT_TYPES = ("text/plain", "application/openmetrics-text")


def gauge(name: str, text: str, rows: Rows) -> Metric:
    """Return a family of values that go up and down; rows whose value is None are left out."""
    return _filled(GaugeMetricFamily(name, text), name, rows)


def counter(name: str, text: str, rows: Rows) -> Metric:
    """Return a family of values that only grow, as their owner counts them; ``name`` ends in ``_total``."""
    return _filled(CounterMetricFamily(name.removesuffix("_total"), text), name, rows)


def _filled(family: Metric, name: str, rows: Rows) -> Metric:
    for labels, value in rows:
        if value is not None:
            family.add_sample(name, dict(labels), float(value))
    return family


def render(families: Iterable[Metric]) -> bytes:
    """Write families in Prometheus's text format, :data:`CONTENT_TYPE`; those without a sample are left out.

    It is the only format: the library's OpenMetrics writer turns the colon of ``llamacpp:`` into an underscore.
    """
    return generate_latest(_Collected([_tidy(family) for family in families if family.samples]))


def wants_json(accept: str) -> bool:
    """Tell whether a client asks for JSON and for none of Prometheus's formats."""
    return "application/json" in accept and not any(kind in accept for kind in _TEXT_TYPES)


def _tidy(family: Metric) -> Metric:
    """Drop the moments of creation, which double the size of a scrape and which no rule of ours reads."""
    family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return family


@dataclass(frozen=True)
class _Collected(Collector):
    """Families that are there already, where prometheus_client expects a registry."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self.families
