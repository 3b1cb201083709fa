"""What is passed on and what is refused."""

import pytest

from rpc_wrapper.gateway.endpoints import ENDPOINTS, Kind, find_endpoint
from rpc_wrapper.gateway.errors import Refusal


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/props", 403),
        ("POST", "/lora-adapters", 403),
        ("POST", "/slots/0", 403),
        ("POST", "/models", 403),
        ("DELETE", "/models", 403),
        ("POST", "/models/load", 403),
        ("GET", "/models/sse", 403),
        ("GET", "/cors-proxy", 403),
        ("POST", "/tools", 403),
        ("GET", "/v1/stream", 403),
        ("DELETE", "/v1/stream/other", 403),
        ("POST", "/v1/streams/lookup", 403),
        ("GET", "/completion", 405),
        ("DELETE", "/slots", 405),
        ("POST", "/predict", 404),
        ("GET", "/", 404),
        ("POST", "/completion/", 404),
        ("POST", "//completion", 404),
        ("POST", "/COMPLETION", 404),
    ],
)
def test_refused(method, path, status):
    with pytest.raises(Refusal) as caught:
        find_endpoint(method, path)
    assert caught.value.problem.status == status
    assert find_endpoint(method, path, passthrough_all=True).path == path


def test_what_exists_is_found():
    for path, endpoint in ENDPOINTS.items():
        for method in endpoint.methods:
            assert find_endpoint(method, path) is endpoint


@pytest.mark.parametrize(
    ("path", "kind", "generates"),
    [
        ("/completion", Kind.INFERENCE, True),
        ("/v1/messages", Kind.INFERENCE, True),
        ("/v1/embeddings", Kind.INFERENCE, False),
        ("/rerank", Kind.INFERENCE, False),
        ("/tokenize", Kind.LIGHT, False),
        ("/v1/messages/count_tokens", Kind.LIGHT, False),
        ("/props", Kind.STATUS, False),
    ],
)
def test_what_it_costs(path, kind, generates):
    assert (ENDPOINTS[path].kind, ENDPOINTS[path].generates) == (kind, generates)
