"""Ask the engine what a prompt is in token ids, over the same exchange as everything else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rpc_wrapper.gateway.endpoints import ENDPOINTS
from rpc_wrapper.gateway.errors import EngineLost
from rpc_wrapper.gateway.exchange import EngineRequest, Exchange


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's token ids, and its text as the engine itself prints it."""

    ids: tuple[int, ...]
    text: str


async def tokenized(direct: Exchange, request: EngineRequest, prompt: str | Sequence[int]) -> Prompt:
    """Return a request's prompt in ids; raise EngineLost.

    The same function of the engine reads the prompt of a completion (server-common.cpp, tokenize_mixed), with both
    options on, so asking after a loss is as good as before it: same model, same ids.
    """
    if isinstance(prompt, str):
        asked = {"content": prompt, "add_special": True, "parse_special": True}
        ids = (await _ask(direct, request, "/tokenize", asked))["tokens"]
    else:
        ids = prompt
    text = (await _ask(direct, request, "/detokenize", {"tokens": list(ids)}))["content"]
    return Prompt(tuple(ids), text)


async def _ask(direct: Exchange, request: EngineRequest, path: str, value: dict[str, Any]) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    body = json.dumps(value).encode()
    question = replace(request, endpoint=ENDPOINTS[path], method="POST", query=b"", headers=headers, body=body)
    async with direct(question) as answer:
        text = b"".join([chunk async for chunk in answer.chunks])
        if answer.status != 200:
            raise EngineLost(f"The engine refused {path} with {answer.status}.", answered=True)
    found: dict[str, Any] = json.loads(text)
    return found
