"""A llama-server of words instead of weights: the same HTTP, a text that follows from its context, faults on demand.

``python -m tests.fakes.llama_server --port 0`` prints the line of the real program that says where it listens. Flags of
the real program that mean nothing here are ignored, so that it can be started in its place.

The next token depends on the last one and on the length of the context only, so prompt + delivered tokens, sent as a
prompt of token ids, goes on with the same text. ``GET /_ledger`` tells what was seen; ``GET /_ledger?cancelled=1``
answers as soon as that many were cancelled; ``POST /_release`` ends a stall.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

WORDS = " the| cat| sat|,| 日本| の| 猫| 🐈| ran| home|.| naïve| 🙂‍↔️| then| slept| again".split("|")  # noqa: SIM905
FIRST_WORD = 256  # below it an id is a byte
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
NOT_FOUND = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
DENIED = {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}
METRICS = b"""# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total %d
"""


def tokenize(text: str) -> list[int]:
    """Return one id per byte."""
    return list(text.encode())


def detokenize(ids: list[int]) -> str:
    """Return the text of ids."""
    parts = (bytes([i]) if i < FIRST_WORD else WORDS[i - FIRST_WORD].encode() for i in ids)
    return b"".join(parts).decode(errors="replace")


def next_token(context: list[int]) -> int:
    """Return the id that follows a context."""
    return FIRST_WORD + (7 * len(context) + 3 * (context[-1] if context else 0)) % len(WORDS)


def continuation(context: list[int], count: int) -> list[int]:
    """Return the ``count`` ids that follow a context."""
    ids = list(context)
    for _ in range(count):
        ids.append(next_token(ids))
    return ids[len(context) :]


@dataclass(slots=True)
class Request:
    """One HTTP request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def object(self) -> dict[str, Any]:
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value


@dataclass(slots=True)
class Ledger:
    """What was seen, and a way to wait for it."""

    seen: int = 0
    running: int = 0
    peak: int = 0
    finished: int = 0
    cancelled: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=64))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, **deltas: int) -> None:
        async with self.changed:
            for name, delta in deltas.items():
                setattr(self, name, getattr(self, name) + delta)
            self.peak = max(self.peak, self.running)
            self.changed.notify_all()

    async def reach(self, wanted: dict[str, int]) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: all(getattr(self, name) >= count for name, count in wanted.items()))

    def to_json(self) -> dict[str, Any]:
        names = ("seen", "running", "peak", "finished", "cancelled")
        return {**{name: getattr(self, name) for name in names}, "requests": list(self.requests)}


class FakeServer:
    """Serve the routes of llama-server that the project uses."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ledger = Ledger()
        self.loaded = asyncio.Event()
        self.released = asyncio.Event()
        self.slots = asyncio.Semaphore(options.slots)
        self.sent_tokens = 0

    async def serve(self) -> None:
        """Listen until SIGTERM, which ends the process with 0."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        if self.options.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.call_later(self.options.load_s, self.loaded.set)
        server = await asyncio.start_server(self.connection, self.options.host, self.options.port)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"main: server is listening on http://{host}:{port}", flush=True)
        await stop.wait()
        server.close()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close, as the real program does when asked for ``Connection: close``."""
        try:
            request = await read_request(reader)
            if request is not None:
                await self.answer(request, Answer(writer, request.method), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(self, request: Request, answer: "Answer", reader: asyncio.StreamReader) -> None:
        """Route one request."""
        if request.path.startswith("/_"):
            await self.own(request, answer)
        elif not self.loaded.is_set():
            await answer.json(LOADING, 503)
        elif request.method == "OPTIONS":
            await answer.raw(b"", 200, "text/html", {"Access-Control-Allow-Origin": "*"})
        elif request.path in ("/health", "/v1/health"):
            await answer.json({"status": "ok"})
        elif self.options.api_key and request.headers.get("authorization") != f"Bearer {self.options.api_key}":
            await answer.json(DENIED, 401)
        else:
            await self.work(request, answer, reader)

    async def own(self, request: Request, answer: "Answer") -> None:
        """Answer a test's questions."""
        if request.path == "/_release":
            self.released.set()
        else:
            await self.ledger.reach({name: int(value) for name, value in parse_qsl(request.query)})
        await answer.json(self.ledger.to_json())

    async def work(self, request: Request, answer: "Answer", reader: asyncio.StreamReader) -> None:
        """Do a request's work, and give up as soon as the client has gone."""
        text = request.body.decode(errors="replace")
        self.ledger.requests.append(
            {"method": request.method, "path": request.path, "query": request.query, "headers": request.headers}
            | {"body": text}
        )
        await self.ledger.add(seen=1, running=1)
        gone = asyncio.create_task(reader.read(1))
        work = asyncio.create_task(self.route(request, answer))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self.ledger.add(running=-1, finished=1)
                work.result()
            else:
                await self.ledger.add(running=-1, cancelled=1)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def route(self, request: Request, answer: "Answer") -> None:
        """Find the handler of a path."""
        if request.path in ("/completion", "/completions", "/v1/completions"):
            await self.generate(request, answer, "completion" if request.path == "/completion" else "text")
        elif request.path.endswith("/chat/completions"):
            await self.generate(request, answer, "chat")
        elif request.path == "/v1/messages":
            await self.generate(request, answer, "anthropic")
        elif request.path.endswith(("/embedding", "/embeddings")):
            vector = {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
            count = len(tokenize(str(request.object.get("input", ""))))
            await answer.json({"object": "list", "data": [vector], "usage": {"prompt_tokens": count}})
        elif request.path == "/tokenize":
            await answer.json({"tokens": tokenize(request.object["content"])})
        elif request.path == "/detokenize":
            await answer.json({"content": detokenize(request.object["tokens"])})
        else:
            await self.about(request, answer)

    async def about(self, request: Request, answer: "Answer") -> None:
        """Tell about the server itself."""
        if request.path == "/props":
            await answer.json({"total_slots": self.options.slots, "model_path": self.options.model})
        elif request.path in ("/models", "/v1/models"):
            await answer.json({"object": "list", "data": [{"id": "fake", "object": "model"}]})
        elif request.path == "/slots":
            await answer.json([{"id": n} for n in range(self.options.slots)])
        elif request.path == "/metrics":
            await answer.raw(METRICS % self.sent_tokens, 200, "text/plain; version=0.0.4")
        else:
            await answer.json(NOT_FOUND, 404)

    async def generate(self, request: Request, answer: "Answer", style: str) -> None:
        """Answer with generated tokens, streamed or whole."""
        asked = request.object
        if asked.get("n_discard", 0) < 0:
            return await answer.json({"error": {"code": 400, "message": "n_discard < 0", "type": "e"}}, 400)
        prompt = prompt_of(asked)
        count = asked.get("n_predict", asked.get("max_tokens", 8))
        ids = continuation(prompt, count)
        async with self.slots:
            if not asked.get("stream", False):
                for _ in ids:
                    await self.token()
                return await answer.json(whole(style, ids, len(prompt)), cut=self.options.close_mid_body)
            await answer.start_stream()
            for index, token in enumerate(ids):
                await self.token()
                event = chunk(style, token, last=index == len(ids) - 1)
                if self.options.close_mid_body and index == len(ids) // 2:
                    return await answer.part(event[: len(event) // 2])
                await answer.part(event)
            if asked.get("stream_options", {}).get("include_usage"):
                await answer.part(usage_chunk(len(prompt), len(ids)))
            if style in ("chat", "text"):
                await answer.part(b"data: [DONE]\n\n")
            await answer.end_stream()

    async def token(self) -> None:
        """Take the time of one token, or misbehave instead."""
        if self.options.die_after_tokens is not None and self.sent_tokens >= self.options.die_after_tokens:
            os.abort()
        if self.options.stall_after_tokens is not None and self.sent_tokens >= self.options.stall_after_tokens:
            await self.released.wait()
        if self.options.token_delay_ms:
            await asyncio.sleep(self.options.token_delay_ms / 1000)
        self.sent_tokens += 1


def prompt_of(asked: dict[str, Any]) -> list[int]:
    """Return the prompt's ids: text, ids, or the contents of chat messages."""
    prompt = asked.get("prompt")
    if isinstance(prompt, list):
        return prompt
    if prompt is None:
        prompt = "".join(str(message.get("content", "")) for message in asked.get("messages", []))
    return tokenize(prompt)


def whole(style: str, ids: list[int], prompt_tokens: int) -> dict[str, Any]:
    """Return an unstreamed answer."""
    text = detokenize(ids)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(ids), "total_tokens": prompt_tokens + len(ids)}
    match style:
        case "completion":
            return {"content": text, "tokens": ids, "stop": True, "tokens_predicted": len(ids)}
        case "text":
            choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "length"}
            return {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": usage}
        case "anthropic":
            return {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
        case _:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
            return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


def chunk(style: str, token: int, *, last: bool) -> bytes:
    """Return one event of a stream."""
    text = detokenize([token])
    finish = "length" if last else None
    match style:
        case "completion":
            value: dict[str, Any] = {"content": text, "tokens": [token], "stop": last}
        case "text":
            value = {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
        case "anthropic":
            value = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        case _:
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
            value = {"object": "chat.completion.chunk", "choices": [choice]}
    name = b"event: content_block_delta\n" if style == "anthropic" else b""
    return name + b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def usage_chunk(prompt_tokens: int, generated: int) -> bytes:
    """Return the event that ends a chat stream of whoever asked for its usage."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": generated, "total_tokens": prompt_tokens + generated}
    value = {"object": "chat.completion.chunk", "choices": [], "usage": usage}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


class Answer:
    """Write one HTTP/1.1 response (RFC 9112) and end the connection with it."""

    def __init__(self, writer: asyncio.StreamWriter, method: str) -> None:
        self._writer = writer
        self._head_only = method == "HEAD"

    async def json(self, value: Any, status: int = 200, *, cut: bool = False) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        await self.raw(body, status, "application/json; charset=utf-8", cut=cut)

    async def raw(
        self, body: bytes, status: int, content_type: str, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        extra = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
        await self._head(status, extra)
        shown = b"" if self._head_only else body[: len(body) // 2] if cut else body
        self._writer.write(shown)
        await self._writer.drain()

    async def start_stream(self) -> None:
        await self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

    async def part(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Status", "Server: llama.cpp", "Connection: close", "Keep-Alive: timeout=5"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        await self._writer.drain()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request with a Content-Length body; None when the client said nothing."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first:
        return None
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, body)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags that mean something here."""
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-m", "--model", default="fake.gguf")
    parser.add_argument("--api-key", default="")
    parser.add_argument("-np", "--parallel", "--slots", dest="slots", type=int, default=4)
    parser.add_argument("--load-s", type=float, default=0.0, help="answer 503 that long")
    parser.add_argument("--token-delay-ms", type=float, default=0.0, help="time per token")
    parser.add_argument("--die-after-tokens", type=int, help="abort at the token after so many, over all requests")
    parser.add_argument("--stall-after-tokens", type=int, help="fall silent there, until POST /_release")
    parser.add_argument("--ignore-sigterm", action="store_true", help="end by SIGKILL only")
    parser.add_argument("--close-mid-body", action="store_true", help="close in the middle of every generated answer")
    return parser


def main() -> None:
    """Run until told to stop."""
    options, _ = parser().parse_known_args()

    async def run() -> None:
        await FakeServer(options).serve()

    asyncio.run(run())


if __name__ == "__main__":
    main()
