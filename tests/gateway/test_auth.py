"""Keys, and what holds without any."""

import pytest

from rpc_wrapper.access import Caller, holds_key
from rpc_wrapper.gateway.auth import Keys, check, is_control
from rpc_wrapper.gateway.errors import Refusal

HERE = {"host": "127.0.0.1:8080"}
KEYS = Keys(("alpha", "beta"), ("root",))


def refusal(method: str, path: str, keys: Keys, headers: dict[str, str], peer: str | None = "127.0.0.1") -> int | None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    try:
        check(Caller(method, path, raw, peer), keys)
    except Refusal as error:
        return error.problem.status
    return None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer alpha"}, None),
        ({"authorization": "bearer beta"}, None),
        ({"authorization": "Bearer  beta "}, None),
        ({"authorization": "Bearer root"}, None),
        ({"x-api-key": "beta"}, None),
        ({"x-api-key": "wrong", "authorization": "Bearer alpha"}, None),
        ({"authorization": "Basic alpha"}, 401),
        ({"authorization": "alpha"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer alph"}, 401),
        ({"authorization": "Bearer alphaa"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "älpha"}, 401),
    ],
)
def test_keys(headers, status):
    assert refusal("POST", "/completion", KEYS, headers) == status


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer None"}, {"authorization": "Bearer "}])
def test_without_keys_everybody_may_ask(headers):
    assert refusal("POST", "/completion", Keys(), headers, peer="203.0.113.9") is None


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/health"])
def test_health_is_public(path):
    assert refusal("GET", path, KEYS, {}) is None


def test_a_preflight_needs_no_key():
    assert refusal("OPTIONS", "/v1/chat/completions", KEYS, {}) is None


@pytest.mark.parametrize(
    ("keys", "presented", "status"),
    [
        (KEYS, "root", None),
        (KEYS, "alpha", 401),
        (Keys(("alpha",)), "alpha", None),
        (Keys((), ("root",)), "root", None),
        (Keys((), ("root",)), "", 401),
    ],
)
def test_control_needs_an_admin_key(keys, presented, status):
    headers = {**HERE, "authorization": f"Bearer {presented}"}
    assert refusal("POST", "/cluster/restart", keys, headers) == status


@pytest.mark.parametrize(
    ("headers", "peer", "status"),
    [
        (HERE, "127.0.0.1", None),
        ({"host": "localhost:8080"}, "127.0.0.1", None),
        ({"host": "[::1]:8080"}, "::1", None),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, "127.0.0.1", None),
        (HERE, "192.0.2.7", 403),
        (HERE, None, 403),
        ({}, "127.0.0.1", 403),
        ({"host": "rebound.example:8080"}, "127.0.0.1", 403),
        ({"host": "localhost.evil.example"}, "127.0.0.1", 403),
        ({"host": "[broken"}, "127.0.0.1", 403),
        ({**HERE, "origin": "https://evil.example"}, "127.0.0.1", 403),
        ({**HERE, "origin": "http://127.0.0.1:3000"}, "127.0.0.1", 403),
        ({**HERE, "origin": "null"}, "127.0.0.1", 403),
        ({**HERE, "x-forwarded-for": "192.0.2.7"}, "127.0.0.1", 403),
    ],
)
def test_without_keys_the_cluster_is_controlled_from_its_machine(headers, peer, status):
    assert refusal("POST", "/cluster/restart", Keys(), headers, peer) == status


def test_looking_is_not_control():
    assert not is_control("GET", "/cluster")
    assert is_control("POST", "/cluster/restart")
    assert is_control("DELETE", "/cluster/backends")


def test_keys_stay_out_of_logs():
    assert "alpha" not in repr(KEYS)
    assert "root" not in repr(KEYS)


def test_no_keys_match_nothing():
    assert not holds_key(Caller("GET", "/", [(b"authorization", b"Bearer ")], None), ())
