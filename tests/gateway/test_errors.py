"""Problems and their envelopes."""

import json

import pytest

from rpc_wrapper.errors import ConfigError, ConnectError, NotReady, QueueFull
from rpc_wrapper.gateway import errors
from rpc_wrapper.gateway.errors import EngineLost, Problem, Refusal


@pytest.mark.parametrize(
    ("error", "status", "code", "source", "retry_after"),
    [
        (NotReady("not yet", 7.4), 503, "not_ready", "gateway", "7"),
        (NotReady("at once", 0.0), 503, "not_ready", "gateway", "1"),
        (QueueFull("full"), 429, "queue_full", "gateway", "1"),
        (EngineLost("gone", answered=False), 502, "engine_lost", "engine", None),
        (ConnectError("refused"), 502, "engine_lost", "engine", None),
        (Refusal(errors.too_large(10)), 413, "body_too_large", "gateway", None),
        (Refusal(errors.unauthorized()), 401, "invalid_api_key", "gateway", None),
        (ConfigError("odd"), 500, "internal", "gateway", None),
    ],
)
def test_every_error_has_its_answer(error, status, code, source, retry_after):
    problem = errors.problem_of(error)
    assert (problem.status, problem.code, problem.source) == (status, code, source)
    assert dict(errors.headers_of(problem)).get("retry-after") == retry_after
    assert problem.message == str(error)


def test_envelope_is_openai_shaped():
    problem = Problem(503, "not_ready", "猫 is loading", "unavailable_error", details={"cluster": {"state": "loading"}})
    assert json.loads(errors.body_of(problem)) == {
        "error": {
            "message": "猫 is loading",
            "type": "unavailable_error",
            "code": "not_ready",
            "param": None,
            "source": "gateway",
            "cluster": {"state": "loading"},
        }
    }


def test_anthropic_clients_get_their_own_shape():
    value = errors.envelope(errors.engine_lost("gone"), anthropic=True)
    assert value["type"] == "error"
    assert value["error"]["type"] == "server_error"


def test_a_problem_is_one_event_of_a_stream():
    problem = errors.engine_lost("two\nlines")
    assert errors.sse_event(problem).count(b"\n") == 2, "a newline inside would end the event early"
    assert errors.sse_event(problem).startswith(b'data: {"error"')
    assert errors.sse_event(problem, anthropic=True).startswith(b'event: error\ndata: {"type": "error"')


def test_refusals_say_what_to_do():
    assert dict(errors.headers_of(errors.method_not_allowed("PUT", "/slots", ("GET",))))["allow"] == "GET"
    assert "APP_MAX_BODY_MIB" in errors.too_large(5).message
    assert "Bearer" in errors.unauthorized().message
