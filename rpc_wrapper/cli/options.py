"""Give a command one option per setting, so that ``APP_CTX_SIZE=512`` and ``--ctx-size 512`` are the same thing."""

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from rpc_wrapper.cli.local import tls_identity
from rpc_wrapper.config import Loaded, Settings, from_llama_args, load_settings
from rpc_wrapper.engine.machine import is_container
from rpc_wrapper.link.tls import Identity, client_context
from rpc_wrapper.logs import set_up_logging

TLS_FIELDS = ("tls", "tls_ca", "tls_cert", "tls_key", "config")

log = logging.getLogger(__name__)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add every setting as an option to a command that takes ``cli``, the mapping of those given."""
    return _with_options(command, "cli", Settings.model_fields, lambda given: given)


def with_tls(command: Callable[..., None]) -> Callable[..., None]:
    """Add the settings of TLS as options to a command that takes ``tls``, the context of who asks backends, or None."""

    def context(given: Mapping[str, object]) -> object:
        identity = _identity(given)
        return client_context(identity) if identity else None

    return _with_options(command, "tls", TLS_FIELDS, context)


def with_identity(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same options to a command that takes ``identity``, the files of this machine, or None without TLS."""
    return _with_options(command, "identity", TLS_FIELDS, _identity)


def _identity(given: Mapping[str, object]) -> Identity | None:
    return tls_identity(load_settings(given).settings)


def _with_options(
    command: Callable[..., None],
    parameter: str,
    fields: Iterable[str],
    make: Callable[[Mapping[str, object]], object],
) -> Callable[..., None]:
    """Replace one parameter of a command by options for settings; ``make`` turns those that were given into it."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        own = {name: values.pop(name) for name in own_names}
        command(**{parameter: make({name: value for name, value in values.items() if value is not None})}, **own)

    signature = inspect.signature(command)
    own_names = [name for name in signature.parameters if name != parameter]
    parameters = [signature.parameters[name] for name in own_names]
    parameters += [_option(name) for name in fields if name not in own_names]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def _option(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    option = typer.Option(
        f"--{name.replace('_', '-')}", help=field.description, show_default=False, rich_help_panel="Settings"
    )
    annotation = Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def load(cli: Mapping[str, object], extra: Sequence[str]) -> tuple[Loaded, tuple[str, ...]]:
    """Return the settings in force and the arguments left for the engine; set up logging and print the warnings.

    For a server, llama-server's own arguments that a setting owns become that setting, where the command line has not
    given it already.
    """
    container = is_container()
    loaded = load_settings(cli, in_container=container)
    rest = tuple(extra)
    notes: tuple[str, ...] = ()
    if loaded.settings.mode == "server" and extra:
        mapped = from_llama_args(extra, loaded.settings.parallel)
        loaded = load_settings({**mapped.settings, **cli}, in_container=container)
        rest, notes = mapped.rest, mapped.notes
    settings = loaded.settings
    keys = (*settings.api_keys, *settings.admin_keys, *([settings.agent_token] if settings.agent_token else []))
    secrets = [key.get_secret_value() for key in keys]
    set_up_logging(level=settings.log_level, form=settings.log_format, secrets=secrets)
    for line in (*loaded.warnings, *notes):
        log.warning(line)
    return loaded, rest


def environment() -> dict[str, str]:
    """Return the environment that children inherit: everything but what belongs to this program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
