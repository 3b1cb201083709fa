"""Our refusals as one value, :class:`Problem`, written the way OpenAI's and Anthropic's clients read errors.

Envelope: ``{"error": {"message", "type", "code", "param", "source", ...}}``. ``source`` names who spoke: ``gateway``,
``engine`` or ``backend``. An error that comes from the engine as an answer is never rewritten.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rpc_wrapper.errors import ConnectError, NotReady, QueueFull, RPCWrapperError

QUEUE_FULL_RETRY_S = 1.0
STARTING_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that says no: its status, a stable ``code``, a sentence, and who says so."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    source: str = "gateway"
    retry_after_s: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Refusal(RPCWrapperError):
    """A request is answered with :attr:`problem` instead of being passed on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class EngineLost(RPCWrapperError):
    """The engine went away during an exchange; ``answered`` tells whether its answer had begun."""

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


def envelope(problem: Problem, *, anthropic: bool = False) -> dict[str, Any]:
    """Return the JSON value of a problem; Anthropic's clients want ``"type": "error"`` beside it."""
    error = {
        "message": problem.message,
        "type": problem.type,
        "code": problem.code,
        "param": None,
        "source": problem.source,
        **problem.details,
    }
    return {"type": "error", "error": error} if anthropic else {"error": error}


def body_of(problem: Problem, *, anthropic: bool = False) -> bytes:
    """Return the JSON bytes of a problem."""
    return json.dumps(envelope(problem, anthropic=anthropic), ensure_ascii=False).encode()


def headers_of(problem: Problem) -> list[tuple[str, str]]:
    """Return the headers that belong to a problem: its type, its own, and when to come back (RFC 9110, 10.2.3)."""
    headers = [("content-type", "application/json; charset=utf-8"), *problem.headers]
    if problem.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, round(problem.retry_after_s)))))
    return headers


def sse_event(problem: Problem, *, anthropic: bool = False) -> bytes:
    """Return a problem as the last event of a broken stream, in the shape llama-server itself uses for errors."""
    name = b"event: error\n" if anthropic else b""
    return name + b"data: " + body_of(problem, anthropic=anthropic) + b"\n\n"


def problem_of(error: RPCWrapperError) -> Problem:
    """Translate an error of the package's tree into the answer it deserves."""
    match error:
        case Refusal():
            return error.problem
        case NotReady():
            return not_ready(str(error), error.retry_after_s)
        case QueueFull():
            return Problem(429, "queue_full", str(error), "rate_limit_error", retry_after_s=QUEUE_FULL_RETRY_S)
        case EngineLost():
            return engine_lost(str(error))
        case ConnectError():
            return engine_lost(str(error))
        case _:
            return Problem(500, "internal", str(error), "server_error")


def not_ready(message: str, retry_after_s: float, progress: Mapping[str, Any] | None = None) -> Problem:
    """Refuse because the engine is not ready; ``progress`` is the cluster's state as clients may know it."""
    details = {"cluster": dict(progress)} if progress is not None else {}
    return Problem(503, "not_ready", message, "unavailable_error", retry_after_s=retry_after_s, details=details)


def engine_lost(message: str, details: Mapping[str, Any] | None = None) -> Problem:
    """Report that the engine did not live to finish its answer."""
    return Problem(502, "engine_lost", message, "server_error", "engine", details=details or {})


def unauthorized() -> Problem:
    """Refuse a missing or wrong key (RFC 6750)."""
    message = "This endpoint needs an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
    headers = (("www-authenticate", "Bearer"),)
    return Problem(401, "invalid_api_key", message, "authentication_error", headers=headers)


def forbidden(code: str, message: str) -> Problem:
    """Refuse something that a key, if any, does not permit."""
    return Problem(403, code, message, "permission_error")


def not_found(path: str) -> Problem:
    """Refuse a path that neither the gateway nor the engine serves."""
    return Problem(404, "not_found", f"There is no endpoint {path!r} here.")


def method_not_allowed(method: str, path: str, allowed: tuple[str, ...]) -> Problem:
    """Refuse a method, naming those that exist (RFC 9110, 15.5.6)."""
    allow = ", ".join(allowed)
    return Problem(
        405, "method_not_allowed", f"{path} does not take {method}, only {allow}.", headers=(("allow", allow),)
    )


def too_large(limit_bytes: int) -> Problem:
    """Refuse a body over the limit; the rest of it is read and thrown away, so that the client hears the answer."""
    message = f"The request body is larger than {limit_bytes} bytes: shorten it, or raise APP_MAX_BODY_MIB."
    return Problem(413, "body_too_large", message)


def cannot_be_sent(reason: str) -> Problem:
    """Refuse a request that HTTP itself does not let us repeat to the engine."""
    return Problem(400, "malformed_request", f"The request's URL or headers are malformed: {reason}.")


def not_json(reason: str) -> Problem:
    """Refuse a body that is not a JSON object."""
    return Problem(400, "invalid_json", f"The request body is not a JSON object: {reason}.")
