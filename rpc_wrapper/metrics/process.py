"""What the processes of one service take of their machine, as metrics."""

from collections.abc import Mapping

from prometheus_client import Metric

from rpc_wrapper.metrics.exposition import counter, gauge
from rpc_wrapper.usage import Usage


def process_families(usages: Mapping[str, Usage | None]) -> list[Metric]:
    """Return the families of some processes by name; one that is not running has no series."""
    running = {name: used for name, used in usages.items() if used is not None}
    return [
        counter(
            "rpcw_process_cpu_seconds_total",
            "Processor time of a process of this service since its start.",
            [({"process": name}, used.cpu_s) for name, used in running.items()],
        ),
        gauge(
            "rpcw_process_resident_memory_bytes",
            "Memory of a process of this service that is in RAM.",
            [({"process": name}, used.rss_bytes) for name, used in running.items()],
        ),
    ]
