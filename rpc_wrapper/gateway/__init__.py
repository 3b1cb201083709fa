"""The FastAPI front: one HTTP endpoint that stays up while the engine behind it comes and goes.

Words: the *upstream* is the cluster as the gateway sees it (:mod:`.upstream`); an *endpoint* of the engine is one of
its routes (:mod:`.endpoints`); an *exchange* is one request sent to the engine and its answer (:mod:`.exchange`);
*admission* decides who may wait and who is sent away (:mod:`.admission`); a *problem* is an answer that says no
(:mod:`.errors`); a *visit* is what is known of a request from its first byte to its last (:mod:`.visit`), for metrics
and the access log.

A request goes: request id, visit, keys (:mod:`.front`, :mod:`.auth`) → endpoint, body, unknown fields (:mod:`.proxy`) →
admission → exchange → bytes back, untouched.
"""

from rpc_wrapper.gateway.app import Gateway, GatewayConfig, create_app
from rpc_wrapper.gateway.upstream import Readiness, Target, Upstream

__all__ = ["Gateway", "GatewayConfig", "Readiness", "Target", "Upstream", "create_app"]
