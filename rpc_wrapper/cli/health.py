"""``rpc-wrapper health``: tell whether the service that the environment describes does its work."""

import typer

from rpc_wrapper import health as checks


def health() -> None:
    """Ask the service that APP_MODE, APP_BIND and APP_PORT describe; the exit code is 0 when it is healthy, else 1."""
    raise typer.Exit(checks.main())
