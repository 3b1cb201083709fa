"""``rpc-wrapper certs init``: a private CA and one certificate per machine."""

import contextlib
import datetime
import ipaddress
import re
from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Certificates for mutual TLS between server and backends.")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
MAX_NAME = 64  # of a certificate's common name
CA_DAYS = 3650  # the CA outlives what it signs: with a new one every machine needs new files at once


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
        _check(name)
    now = datetime.datetime.now(datetime.UTC)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if certificates.has_ca(directory):
            ca = certificates.read_ca(directory, now)
        else:
            ca = certificates.make_ca(certificates.Validity.days(max(days, CA_DAYS), now))
            typer.echo(" ".join(map(str, ca.write(directory, "ca"))))
        validity = certificates.Validity.days(days, now).within(ca.cert)
        for name in host:
            pair = certificates.make_leaf(ca, name, validity).write(directory, name.replace(":", "_"), owner)
            typer.echo(" ".join(map(str, pair)))
    except OSError as error:
        needs_root = owner is not None and isinstance(error, PermissionError)
        advice = f"to give it to user {owner}, run this as root" if needs_root else "name another folder"
        raise ConfigError(f"{error.filename} cannot be written ({error.strerror}): {advice}") from None
    typer.echo(
        f"Valid until {validity.end:%Y-%m-%d}. Give each machine ca.crt and its own pair; keep ca.key to yourself."
    )


def _check(host: str) -> None:
    """Raise ConfigError for what no certificate can be made for."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and _NAME.fullmatch(name):
        raise ConfigError(f"--host {host!r} has a port, and a certificate is for a machine: write --host {name}")
    if not _NAME.fullmatch(host) or len(host) > MAX_NAME or host == "ca":
        raise ConfigError(f"--host {host!r} is not a host name or address of at most {MAX_NAME} characters")
