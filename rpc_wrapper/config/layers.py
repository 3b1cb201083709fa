"""Gather settings from every layer, remember which layer won, and refuse what cannot be."""

import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from rpc_wrapper.config.problems import SECRETS, Source, nearest, option, sentences, variable
from rpc_wrapper.config.settings import Settings
from rpc_wrapper.config.templates import TEMPLATES
from rpc_wrapper.errors import ConfigError

PREFIX = "APP_"
OLD_BACKENDS = "APP_RPC"  # the name the original image tested by mistake, so its users set it
DEFAULT = Source("default")


class Value(NamedTuple):
    """One value of a layer and where it stands."""

    value: object
    source: Source


Layer = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force; ``sources`` says for every field where its value came from."""

    settings: Settings
    sources: Mapping[str, Source]
    warnings: tuple[str, ...] = ()


def load_settings(
    cli: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    *,
    in_container: bool = False,
) -> Loaded:
    """Merge CLI over environment over file over template over defaults, and validate the result.

    ``cli`` maps field names to values, None meaning not given; ``environ`` is the process's own by default.
    Raises ConfigError, one line per thing that is wrong.
    """
    command = _cli_layer(cli)
    env, warnings = _env_layer(os.environ if environ is None else environ)
    path = ChainMap(dict(command), dict(env)).get("config")
    file, templates = _file_layer(Path(str(path.value))) if path else ({}, {})
    chosen = ChainMap(dict(command), dict(env), dict(file)).get("template")
    template = _template_layer(str(chosen.value), {**TEMPLATES, **templates}) if chosen else {}
    container = {"bind": Value("0.0.0.0", Source("default", "(in a container)"))} if in_container else {}
    layers = ChainMap(*(_with_secrets(layer) for layer in (command, env, file, template)), container)
    settings = _validate(layers)
    sources = {name: layers[name].source if name in layers else DEFAULT for name in Settings.model_fields}
    return Loaded(settings, sources, warnings)


def _cli_layer(cli: Mapping[str, object]) -> Layer:
    given = {name: value for name, value in cli.items() if value is not None}
    unknown = [option(name) for name in given if name not in Settings.model_fields]
    _refuse_unknown(unknown, [option(name) for name in Settings.model_fields])
    return {name: Value(value, Source("cli")) for name, value in given.items()}


def _env_layer(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Read APP_*; an empty value is an unset one, as in the original image and in compose files."""
    ours = {name: value.strip() for name, value in environ.items() if name.startswith(PREFIX)}
    fields = {variable(name): name for name in Settings.model_fields}
    _refuse_unknown([name for name in ours if name not in fields and name != OLD_BACKENDS], list(fields))
    layer = {fields[name]: Value(ours[name], Source("env", name)) for name in ours if name in fields and ours[name]}
    old = ours.get(OLD_BACKENDS)
    if not old:
        return layer, ()
    if "rpc_backends" in layer:
        return layer, (f"{OLD_BACKENDS} is ignored, since APP_RPC_BACKENDS is set: drop it",)
    layer["rpc_backends"] = Value(old, Source("env", OLD_BACKENDS))
    return layer, (f"{OLD_BACKENDS} is an old name: rename it to APP_RPC_BACKENDS",)


def _file_layer(path: Path) -> tuple[Layer, Mapping[str, object]]:
    """Read a file of settings; its ``templates`` are named sets of its own."""
    content = _read_mapping(path)
    templates = _mapping(content.pop("templates", {}), f"templates in {path}")
    if "config" in content:
        raise ConfigError(f"config: a file of settings cannot name another; remove it from {path}")
    return _layer(content, Source("file", str(path))), templates


def _read_mapping(path: Path) -> dict[str, object]:
    """Parse a YAML file, of which JSON is a part."""
    try:
        content = yaml.safe_load(_read_text(path, "config"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where} is neither YAML nor JSON: write one `name: value` per line") from None
    return _mapping(content if content is not None else {}, str(path))


def _mapping(content: object, what: str) -> dict[str, object]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{what}: this is not a set of settings, write one `name: value` per line")
    return {str(key): value for key, value in content.items()}


def _read_text(path: Path, field: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{variable(field)}={path} cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{variable(field)}={path} is not UTF-8 text: check the path") from None


def _template_layer(name: str, templates: Mapping[str, object]) -> Layer:
    if name not in templates:
        raise ConfigError(f"APP_TEMPLATE={name}: there is no such template, use one of {', '.join(sorted(templates))}")
    content = _mapping(templates[name], f"template {name}")
    if misplaced := content.keys() & {"config", "template"}:
        raise ConfigError(f"template {name} cannot set {' or '.join(sorted(misplaced))}: remove it")
    return _layer(content, Source("template", name))


def _layer(content: Mapping[str, object], source: Source) -> Layer:
    unknown = [name for name in content if name not in Settings.model_fields]
    _refuse_unknown(unknown, list(Settings.model_fields), f" ({source})")
    return {name: Value(value, source) for name, value in content.items() if value is not None}


def _refuse_unknown(unknown: list[str], known: list[str], where: str = "") -> None:
    if unknown:
        raise ConfigError(
            "\n".join(f"{name} is not a setting{where}{nearest(name, known)}" for name in sorted(unknown))
        )


def _with_secrets(layer: Layer) -> dict[str, Value]:
    """Replace each ``*_file`` of a layer by what the file holds: files obey the same precedence as values."""
    filled = dict(layer)
    for name in sorted(SECRETS):
        file = layer.get(f"{name}_file")
        if file is None:
            continue
        if name in layer:
            raise ConfigError(f"{variable(name)} and {variable(name)}_FILE are both set: keep one of them")
        filled[name] = Value(_read_secret(name, Path(str(file.value))), file.source)
    return filled


def _read_secret(field: str, path: Path) -> object:
    """Return the file's lines, or its only line for a setting that is one secret."""
    lines = [line.strip() for line in _read_text(path, f"{field}_file").splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"{variable(field)}_FILE={path} is empty: write one key per line")
    if field != "agent_token":
        return lines
    if len(lines) > 1:
        raise ConfigError(f"{variable(field)}_FILE={path} holds {len(lines)} lines: a token is one line")
    return lines[0]


def _validate(layers: Mapping[str, Value]) -> Settings:
    values: dict[str, Any] = {name: value for name, (value, _) in layers.items()}
    sources = {name: source for name, (_, source) in layers.items()}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(sentences(error, values, sources))) from None
