"""``rpc-wrapper certs init``: a private CA and one certificate per machine."""

import datetime
import re
from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Certificates for mutual TLS between server and backends.")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@app.callback()
def certs() -> None:
    """Make the certificates that APP_TLS=require asks for."""


@app.command()
def init(
    host: Annotated[list[str], typer.Option(help="A machine's name or address, as APP_RPC_BACKENDS lists it; repeat.")],
    directory: Annotated[Path, typer.Option("-o", "--output", help="Where to write; a CA found there is used again.")],
    days: Annotated[int, typer.Option(min=1, help="How long the certificates are valid.")] = 825,
    owner: Annotated[
        int | None, typer.Option(min=0, help="User id that will read the hosts' keys: 10001 in containers; needs root.")
    ] = None,
) -> None:
    """Write ca.crt, ca.key and for each host HOST.crt and HOST.key."""
    from rpc_wrapper.link import certificates

    for name in host:
        if not _HOST.fullmatch(name) or name == "ca":
            raise ConfigError(f"--host {name!r} is not a host name or address of at most 64 characters")
    validity = certificates.Validity.days(days, datetime.datetime.now(datetime.UTC))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "ca.key").exists():
            ca = certificates.read_ca(directory)
        else:
            ca = certificates.make_ca(validity)
            typer.echo(" ".join(map(str, ca.write(directory, "ca"))))
        for name in host:
            pair = certificates.make_leaf(ca, name, validity).write(directory, name.replace(":", "_"), owner)
            typer.echo(" ".join(map(str, pair)))
    except OSError as error:
        needs_root = owner is not None and isinstance(error, PermissionError)
        advice = f"to give it to user {owner}, run this as root" if needs_root else "name another folder"
        raise ConfigError(f"{error.filename} cannot be written ({error.strerror}): {advice}") from None
    typer.echo("Give each machine ca.crt and its own pair; keep ca.key to yourself.")
