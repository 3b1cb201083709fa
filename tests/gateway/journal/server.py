"""The fake llama-server, speaking in the engine's own events: ``python -m tests.gateway.journal.server --port 0``.

All flags of :mod:`tests.fakes.llama_server` work here, and some more.
"""

import asyncio
import os

from tests.fakes.llama_server import Answer, FakeServer, Request, parser
from tests.gateway.journal import engine

DIALECTS = {
    "/completion": "native",
    "/v1/completions": "text",
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
}


class Server(FakeServer):
    """The fake server with streams as :mod:`.engine` makes them."""

    async def route(self, request: Request, answer: Answer) -> None:
        if request.path in DIALECTS and request.object.get("stream"):
            await self.stream(request, answer)
        elif request.path == "/tokenize":
            await answer.json({"tokens": engine.tokenize(request.object["content"])})
        elif request.path == "/detokenize":
            await answer.json({"content": engine.detokenize(request.object["tokens"])})
        elif self.options.say_nothing:
            await answer.raw(b"", 200, "application/json")
        else:
            await super().route(request, answer)

    async def stream(self, request: Request, answer: Answer) -> None:
        body = request.object
        if self.options.refuse_ids and isinstance(body.get("prompt"), list):
            return await answer.json({"error": {"code": 400, "message": "too long", "type": "e"}}, 400)
        async with self.slots:
            await answer.start_stream()
            for index, event in enumerate(engine.stream(DIALECTS[request.path], body, str(os.getpid()))):
                if index == self.options.end_after:
                    break
                await self.token()
                await answer.part(event)
            await answer.end_stream()


def main() -> None:
    """Run until told to stop."""
    flags = parser()
    flags.add_argument("--say-otherwise", action="store_true", help="have another text")
    flags.add_argument("--say-nothing", action="store_true", help="answer what is not streamed with an empty body")
    flags.add_argument("--end-after", type=int, help="end streams in good order after so many events")
    flags.add_argument("--refuse-ids", action="store_true", help="refuse prompts of token ids")
    options, _ = flags.parse_known_args()
    if options.say_otherwise:
        engine.SCRIPT.reverse()

    async def run() -> None:
        await Server(options).serve()

    asyncio.run(run())


if __name__ == "__main__":
    main()
