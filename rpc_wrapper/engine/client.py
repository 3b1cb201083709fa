"""Asks llama-server about itself over HTTP; one connection pool, a deadline on every call, no retries."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from rpc_wrapper.errors import NotReady, UpstreamError

TIMEOUT_S = 10.0
CANARY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Canary:
    """A token that really came out; ``predicted`` counts them and ``total_ms`` is the engine's own time."""

    predicted: int
    total_ms: float


class EngineClient:
    """llama-server at ``base_url``; ``api_key`` is the one of its environment."""

    def __init__(self, base_url: str, api_key: str | None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=TIMEOUT_S,
            transport=transport,
            trust_env=False,
            verify=False,  # it is spoken to in plain HTTP on loopback: do not read the system's CAs for every client
        )

    async def is_healthy(self) -> bool:
        """Tell whether it listens and has loaded its model, which says nothing about tokens."""
        try:
            await self._get("/health")
        except UpstreamError:
            return False
        return True

    async def canary(self, timeout_s: float = CANARY_TIMEOUT_S) -> Canary:
        """Generate one token, the only proof that every backend computes; nothing of it is cached.

        It needs a free slot and takes the one unused for longest. Raises UpstreamError when no token came within
        ``timeout_s``, and NotReady (an UpstreamError) while the model loads.
        """
        body = {"prompt": "a", "n_predict": 1, "cache_prompt": False, "temperature": 0, "ignore_eos": True}
        answer = await self._post("/completion", body, timeout_s)
        predicted = answer.get("tokens_predicted", 0)
        if not predicted:
            raise UpstreamError(f"the engine answered a completion without a token: {str(answer)[:200]}")
        timings = answer.get("timings", {})
        return Canary(predicted, timings.get("prompt_ms", 0.0) + timings.get("predicted_ms", 0.0))

    async def props(self) -> dict[str, Any]:
        """Return llama-server's properties: model path, template, default settings, slots."""
        return dict(await self._get("/props"))

    async def slots(self) -> list[dict[str, Any]]:
        """Return the state of every slot."""
        return list(await self._get("/slots"))

    async def tokenize(self, content: str, *, add_special: bool = False) -> list[int]:
        """Return the token ids of ``content``."""
        answer = await self._post("/tokenize", {"content": content, "add_special": add_special}, TIMEOUT_S)
        return [int(token) for token in answer["tokens"]]

    async def metrics(self) -> str:
        """Return the engine's own Prometheus text."""
        response = await self._send("GET", "/metrics", None, TIMEOUT_S)
        return response.text

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _get(self, path: str) -> Any:
        return _decoded(await self._send("GET", path, None, TIMEOUT_S))

    async def _post(self, path: str, body: dict[str, Any], timeout_s: float) -> Any:
        return _decoded(await self._send("POST", path, body, timeout_s))

    async def _send(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> httpx.Response:
        try:
            response = await self._http.request(method, path, json=body, timeout=timeout_s)
        except httpx.TimeoutException as error:
            raise UpstreamError(f"the engine did not answer {path} within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise UpstreamError(f"the engine cannot be reached for {path}: {error or type(error).__name__}") from error
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise NotReady(f"the engine is not ready: {_message(response)}")
        if response.is_error:
            raise UpstreamError(f"the engine refused {path} with {response.status_code}: {_message(response)}")
        return response


def _decoded(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise UpstreamError(f"the engine answered {response.url.path} with something that is no JSON") from error


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
