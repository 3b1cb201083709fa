"""Say what is wrong with a setting in one sentence: where it was set, the value, what is allowed."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

# Field → what a log, a table or an error may show instead of it.
SECRETS = frozenset({"api_keys", "admin_keys", "agent_token"})
MASK = "***"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from: ``kind`` is cli, env, file, template or default; ``detail`` names it."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def variable(field: str) -> str:
    """Return a field's name in the environment."""
    return f"APP_{field.upper()}"


def option(field: str) -> str:
    """Return a field's name on the command line."""
    return f"--{field.replace('_', '-')}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``: did you mean X?``, or a hint where all names are listed."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else "; `rpc-wrapper config` lists the names there are"


def sentences(error: ValidationError, values: Mapping[str, object], sources: Mapping[str, Source]) -> list[str]:
    """Return one sentence per thing pydantic found wrong; secrets are masked.

    ``values`` and ``sources`` map a field to what was set and where.
    """
    found = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":
            continue  # a port that follows from a mode or port which is itself wrong
        field = str(problem["loc"][0]) if problem["loc"] else None
        if field is None:
            found.append(_reason(problem))
        else:
            value = values.get(field, problem.get("input"))
            found.append(f"{_assignment(field, value, sources.get(field))}: {_reason(problem)}")
    return list(dict.fromkeys(found))


def _assignment(field: str, value: object, source: Source | None) -> str:
    """Write a setting the way the user wrote it."""
    shown = MASK if field in SECRETS else str(value)
    match source:
        case Source("cli"):
            return f"{option(field)} {shown}"
        case Source("file" | "template") as place:
            return f"{field}: {shown} ({place})"
        case _:
            return f"{variable(field)}={shown}"


def _reason(problem: Any) -> str:  # pydantic_core.ErrorDetails, whose `ctx` is untyped
    """Return what is allowed instead, in our words."""
    context = dict(problem.get("ctx", {}))
    if "expected" in context:
        context["expected"] = context["expected"].replace("'", "").replace(" or ", ", ")
    kind = problem["type"]
    return _REASONS.get(kind, _REASONS.get(kind.split("_")[0], "this is not a value it can have")).format(**context)


# By pydantic's error type, else by the type's first word.
_REASONS = {
    "value_error": "{error}",
    "literal_error": "use one of {expected}",
    "greater_than": "it must be more than {gt:g}",
    "greater_than_equal": "it must be {ge:g} or more",
    "less_than_equal": "it must be {le:g} or less",
    "string_too_short": "it must not be empty",
    "int": "write a whole number",
    "float": "write a number",
    "finite": "write a finite number",
    "bool": "write true or false",
    "path": "write a path",
    "string": "write text (quote it in a file)",
    "tuple": "write host:port, separated by commas",
}
