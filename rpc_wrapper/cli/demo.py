"""``rpc-wrapper demo``: a whole cluster on this machine, without Docker."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer

from rpc_wrapper.cli import live
from rpc_wrapper.cli.backend import backend_service
from rpc_wrapper.cli.local import demo_model, free_pairs
from rpc_wrapper.cli.options import environment, load, with_settings
from rpc_wrapper.cli.server import server_service
from rpc_wrapper.cli.serving import Service, Stop, run_loop, run_services
from rpc_wrapper.config import Settings
from rpc_wrapper.devices import LOCAL, Endpoint
from rpc_wrapper.engine import machine
from rpc_wrapper.errors import NotReady, RPCWrapperError
from rpc_wrapper.gateway.start import start_of

DEMO_MEM_MIB = 2048
ANSWER_TIMEOUT_S = 600.0


@with_settings
def demo(
    cli: Mapping[str, object],
    backends: Annotated[int, typer.Option(min=0, max=8, help="Local workers to start; 0 serves without RPC.")] = 2,
    host: Annotated[str, typer.Option(help="Address of the gateway.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 8080,
    once: Annotated[str | None, typer.Option(metavar="PROMPT", help="Answer this prompt and exit.")] = None,
    reveal_engine: Annotated[Path | None, typer.Option(hidden=True)] = None,
    engine_args: Annotated[list[str] | None, typer.Argument(metavar="-- ENGINE_ARGS...")] = None,
) -> None:
    """Start workers, server and gateway here, and print a curl line that talks to them."""
    cli = {"log_level": "warning", **cli, "mode": "server", "bind": host, "port": port}
    loaded, extra = load(cli, engine_args or [])
    settings = loaded.settings
    if loaded.sources["model"].kind == "default":
        settings = settings.model_copy(update={"model": demo_model()})
    services = [*cluster_services(settings, backends, extra)]
    run_loop(_serve(services, settings, once, reveal_engine))


def cluster_services(settings: Settings, backends: int, extra: tuple[str, ...]) -> list[Service]:
    """Return the server and its local workers, each of them with its share of the processor."""
    environ = environment()
    threads = settings.threads or max(1, machine.default_threads() // max(1, backends))
    mem = settings.mem if "mem" in settings.model_fields_set else DEMO_MEM_MIB
    ports = free_pairs(backends)
    local = {"mode": "backend", "bind": "127.0.0.1", "threads": threads, "mem": mem}
    workers = [
        backend_service(settings.model_copy(update={**local, "port": port, "agent_port": port + 1}), environ)
        for port in ports
    ]
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in ports)
    own = (LOCAL,) if LOCAL in settings.rpc_backends else ()  # --rpc-backends local: this machine's own devices too
    served = {"rpc_backends": (*endpoints, *own), "threads": threads} | ({} if backends else {"strategy": "local"})
    return [server_service(settings.model_copy(update=served), environ, extra), *workers]


async def _serve(services: list[Service], settings: Settings, once: str | None, reveal: Path | None) -> None:
    url = f"http://{settings.bind}:{settings.port}"
    with Stop().on_signals() as stop:
        async with asyncio.TaskGroup() as tasks:
            show = tasks.create_task(live.show([service.runner for service in services], url, quiet=once is not None))
            ask = tasks.create_task(_answer_once(services[0], url, once, stop)) if once is not None else None
            tell = tasks.create_task(_reveal(services[0], reveal)) if reveal is not None else None
            failure: RPCWrapperError | None = None
            try:
                await run_services(services, stop)
            except RPCWrapperError as error:  # raised here, the group would wrap it
                failure = error
            finally:
                show.cancel()
                if tell is not None:
                    tell.cancel()
    if failure is not None:
        raise failure
    if ask is not None and not ask.result():
        raise RPCWrapperError("the demo was stopped before it could answer")


async def _answer_once(server: Service, url: str, prompt: str, stop: Stop) -> bool:
    """Print one answer as it comes, then stop everything; tell whether it is whole."""
    try:
        await server.runner.ensure_ready(ANSWER_TIMEOUT_S)
        async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
            body = {"prompt": prompt, "n_predict": 128}
            answer = (await client.post(f"{url}/completion", json=body)).raise_for_status().json()
        print(prompt + answer["content"], file=sys.stdout, flush=True)
        return True
    except (httpx.HTTPError, RPCWrapperError):
        return False
    finally:
        stop.requested.set()


async def _reveal(server: Service, file: Path) -> None:
    """Write where llama-server itself answers, and its key, for benchmarks that compare the gateway with it."""
    try:
        start = start_of(await server.runner.ensure_ready(ANSWER_TIMEOUT_S))
    except NotReady:  # the services themselves say why
        return
    await asyncio.to_thread(_write_private, file, json.dumps({"base_url": start.base_url, "api_key": start.api_key}))


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
