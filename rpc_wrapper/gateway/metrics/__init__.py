"""What the gateway exports to Prometheus, and the access log: requests as they end, the cluster as it stands.

``requests`` counts what goes through, ``state`` writes a snapshot as metrics, ``recovery`` reads the life cycle's
history, ``engine`` passes llama-server's own metrics on, ``scrape`` answers ``GET /metrics``.
"""

from rpc_wrapper.gateway.metrics.requests import RequestMetrics
from rpc_wrapper.gateway.metrics.scrape import Scrape

__all__ = ["RequestMetrics", "Scrape"]
