"""Show settings: the rows of `rpc-wrapper config`, and the tables of the documentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import SecretStr

from rpc_wrapper.config.layers import Loaded, load_settings
from rpc_wrapper.config.link_overrides import LinkOverride
from rpc_wrapper.config.llama_args import FLAGS
from rpc_wrapper.config.problems import variable
from rpc_wrapper.config.settings import Settings
from rpc_wrapper.devices import MIB, Endpoint

# Defaults that depend on something else are words, not the value they happen to have now.
_COMPUTED = {"port": "8080 or 50052", "agent_port": "APP_PORT + 1", "bind": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, ready to be shown: ``value`` never holds a secret."""

    field: str
    value: object
    source: str
    description: str
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Return its name in the environment."""
        return variable(self.field)


def rows(loaded: Loaded) -> Iterator[Row]:
    """Yield every setting in the order of its declaration."""
    for name, info in Settings.model_fields.items():
        value = shown(getattr(loaded.settings, name))
        yield Row(name, value, str(loaded.sources[name]), info.description or "", choices(info.annotation))


def choices(annotation: object) -> tuple[str, ...]:
    """Return the words a setting is limited to; none when it is not a choice."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def shown(value: object) -> object:
    """Return a value as JSON can hold it; of secrets only how many there are."""
    match value:
        case SecretStr():
            return "set"
        case (SecretStr(), *_) as keys:
            return f"set ({len(keys)} {'key' if len(keys) == 1 else 'keys'})"
        case (Endpoint() | LinkOverride(), *_) as items:
            return ",".join(endpoint_text(item) if isinstance(item, Endpoint) else str(item) for item in items)
        case () | None:
            return None
        case bool() | int() | float():
            return value
        case _:
            return str(value)


def endpoint_text(endpoint: Endpoint) -> str:
    """Write an endpoint with its agent's port and budget, as :func:`rpc_wrapper.devices.parse_endpoint` reads it."""
    agent = f"+agent={endpoint.agent_port}" if endpoint.agent_port is not None else ""
    budget = f"={endpoint.budget_bytes // MIB}" if endpoint.budget_bytes is not None else ""
    return f"{endpoint}{agent}{budget}"


def text(value: object) -> str:
    """Return a shown value as the environment would write it; empty when it is not set."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def variables_markdown() -> str:
    """Return the table of all variables, with their defaults."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for row in rows(load_settings({}, {})):
        default = _COMPUTED.get(row.field, text(row.value))
        words = " One of " + ", ".join(f"`{word}`" for word in row.choices) + "." if row.choices else ""
        lines.append(f"| `{row.variable}` | {f'`{default}`' if default else ''} | {row.description}{words} |")
    return "\n".join(lines)


def flags_markdown() -> str:
    """Return the table of llama-server's arguments that are understood after ``--``."""
    lines = ["| llama-server argument | Setting |", "|---|---|"]
    for flag in FLAGS:
        names = " ".join(f"`{name}`" for name in flag.names)
        lines.append(f"| {names} | `{variable(flag.field)}`{_FLAG_NOTES.get(flag.field, '')} |")
    lines.append("| `--cont-batching` `-cb` | dropped: the engine's default |")
    return "\n".join(lines)


_FLAG_NOTES = {
    "ctx_size": ", divided by the number of slots",
    "flash_attn": "; without a value it means `on`",
    "embeddings": "=true",
}
