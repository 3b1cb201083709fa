"""The workers behind the agents, for who asks how they do or wants them started again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from rpc_wrapper.gateway.backends import BackendReport

FIGURES_TIMEOUT_S = 2.0
RESTART_TIMEOUT_S = 60.0  # a worker gets APP_STOP_S to end, and may be one of many on its machine


@dataclass(frozen=True, slots=True)
class AgentAccess:
    """How agents are reached: the client, with our certificate if ``is_tls``, and the token that makes them obey."""

    http: httpx.AsyncClient
    is_tls: bool = False
    token: str | None = field(default=None, repr=False)


class Workers:
    """Every backend's worker, in the order of the list, numbered from 1 as docker-distributed-llm numbers them."""

    def __init__(self, access: AgentAccess, reports: Callable[[], Sequence[BackendReport]]) -> None:
        self._access = access
        self._reports = reports
        self._turn = asyncio.Lock()
        self._restarts = 0
        self._done: list[dict[str, Any]] = []

    async def figures(self) -> list[dict[str, Any]]:
        """Return what each agent tells of its worker, its memory and processor; an ``error`` where it cannot."""
        headers = {"accept": "application/json"}
        return await self._each(lambda report: self._ask(report, "GET", "/metrics", headers, FIGURES_TIMEOUT_S))

    async def restart(self, request_id: str) -> list[dict[str, Any]]:
        """Start every worker again, all at once; who asks while that is being done shares its outcome."""
        seen = self._restarts
        async with self._turn:
            if self._restarts == seen:
                headers = {"x-request-id": request_id}
                if self._access.token is not None:
                    headers["authorization"] = f"Bearer {self._access.token}"
                self._done = await self._each(
                    lambda report: self._ask(report, "POST", "/restart", headers, RESTART_TIMEOUT_S)
                )
                self._restarts += 1
            return self._done

    async def _each(self, ask: Callable[[BackendReport], Any]) -> list[dict[str, Any]]:
        reports = self._reports()
        answers = await asyncio.gather(*(ask(report) for report in reports))
        return [
            {**answer, "worker_id": number, "endpoint": str(report.endpoint)}
            for number, (report, answer) in enumerate(zip(reports, answers, strict=True), start=1)
        ]

    async def _ask(
        self, report: BackendReport, method: str, path: str, headers: dict[str, str], timeout_s: float
    ) -> dict[str, Any]:
        """Return an agent's JSON object, or the sentence that says why there is none."""
        scheme, address = "https" if self._access.is_tls else "http", report.endpoint
        url = httpx.URL(scheme=scheme, host=address.host, port=address.agent, path=path)
        # Over TLS the certificate must carry the name that was listed, not the address it resolved to.
        extensions = {"sni_hostname": report.listed.host} if self._access.is_tls else {}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._access.http.request(
                    method, url, headers=headers, extensions=extensions, timeout=timeout_s
                )
                body = answer.json()
        except (httpx.HTTPError, TimeoutError):
            return {"status": "error", "error": f"the agent of {address} does not answer: is one running there?"}
        except ValueError:
            return {"status": "error", "error": f"what answers for the agent of {address} is no agent"}
        if not isinstance(body, dict):
            return {"status": "error", "error": f"what answers for the agent of {address} is no agent"}
        return body if answer.is_success else {"status": "error", **body}
