"""``rpc-wrapper run``: be a backend, a server, or nothing, as APP_MODE says; the entrypoint of the image."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from rpc_wrapper.cli.backend import backend_service
from rpc_wrapper.cli.options import environment, load, with_settings
from rpc_wrapper.cli.server import server_service
from rpc_wrapper.cli.serving import Service, Stop, run_loop, run_services
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.health import leave_word

log = logging.getLogger(__name__)


@with_settings
def run(
    cli: Mapping[str, object],
    engine_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ENGINE_ARGS...", help="Arguments for the engine program, unchanged."),
    ] = None,
) -> None:
    """Lend this machine (APP_MODE=backend) or serve a model over others (APP_MODE=server)."""
    loaded, extra = load(cli, engine_args or [])
    settings = loaded.settings
    if settings.mode == "none":
        if extra:
            become(extra)
        run_loop(idle())
        return
    if settings.mode == "backend":
        service = backend_service(settings, environment(), extra)
    else:
        service = server_service(settings, environment(), extra)
    leave_word(settings)
    run_loop(serve(service))


def become(argv: Sequence[str]) -> None:
    """Turn into the program that was asked for, as `docker run -e APP_MODE=none IMAGE llama-cli ...` does."""
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise ConfigError(f"{argv[0]} cannot be run ({error.strerror}): name a program that is on PATH") from error


async def idle() -> None:
    """Wait for SIGTERM or SIGINT."""
    with Stop().on_signals() as stop:
        print("APP_MODE is none: idling; use `docker exec` to run llama-cli and the others.", flush=True)
        await stop.requested.wait()


async def serve(service: Service) -> None:
    """Run one service until a signal ends it."""
    with Stop().on_signals() as stop:
        await run_services([service], stop)
