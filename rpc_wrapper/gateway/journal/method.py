"""How a request goes to the engine, and how it goes on after a loss: rules over its body, nothing else.

*Prefill* hands the engine prompt + delivered tokens, and it decodes from there. That is right only where those tokens
are all the state there is. *Replay* asks the same again and throws away what the client has. That is right wherever
the same question has the same answer: greedy, or sampled from a seed that we know.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rpc_wrapper.gateway.journal.entry import Asked, Delivered, Entry
from rpc_wrapper.gateway.journal.reading import Dialect

RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED (include/llama.h): -1 and this one mean "a new one each time"
LIMITS = ("n_predict", "max_tokens", "max_completion_tokens")  # names of one limit (server-schema.cpp)

# Engine state that the tokens alone do not hold, or answers whose numbers could not be made whole.
_STATE = frozenset(
    {"grammar", "json_schema", "response_format", "tools", "reasoning_budget_tokens", "reasoning_control"}
    | {
        "n_indent",
        "t_max_predict_ms",
        "mirostat",
        "response_fields",
        "chat_format",
        "chat_parser",
        "message_delimiters",
    }
)
_SEEDED = frozenset({Dialect.NATIVE, Dialect.TEXT, Dialect.CHAT, Dialect.RESPONSES})
_SHOWS_PROGRESS = frozenset({Dialect.NATIVE, Dialect.TEXT, Dialect.CHAT})


class Method(StrEnum):
    """How to go on."""

    PREFILL = "prefill"
    REPLAY = "replay"
    END = "end"


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to go on, and why no better one."""

    method: Method
    reason: str = ""


def ask(dialect: Dialect, body: bytes, value: dict[str, Any] | None, seed: int) -> Asked:
    """Return a request as it goes to the engine.

    A stream gets what resuming needs, written behind the client's own bytes: ``seed`` if it has none of its own, and
    on request of nobody but us the progress of its prompt and its tokens' ids, which are taken out again.
    """
    if value is None or value.get("stream") is not True:
        return Asked(dialect, body, value)
    added: dict[str, Any] = {}
    if dialect in _SEEDED and not is_greedy(value) and not has_seed(value):
        added["seed"] = seed
    if dialect in _SHOWS_PROGRESS and "return_progress" not in value:
        added["return_progress"] = True
    if dialect is Dialect.TEXT and "verbose" not in value and not _state_beside_tokens(value):
        added["verbose"] = True
    return Asked(
        dialect,
        append_fields(body, added),
        {**value, **added},
        hides_progress="return_progress" in added,
        hides_verbose="verbose" in added,
    )


def choose(entry: Entry, replay_tokens: int) -> Choice:
    """Return how a request goes on after a loss; what the engine or the text has refused already is not tried again."""
    delivered, asked = entry.delivered, entry.asked
    if not entry.is_recorded and delivered.n_texts:
        return Choice(Method.END, "its text outgrew the journal (APP_RESUME_MAX_MIB)")
    no_prefill = entry.refusals.get(Method.PREFILL) or prefill_obstacle(asked, delivered)
    no_replay = entry.refusals.get(Method.REPLAY) or replay_obstacle(asked, delivered)
    if not no_prefill and (no_replay or delivered.n_tokens >= replay_tokens):
        return Choice(Method.PREFILL)
    if not no_replay:
        return Choice(Method.REPLAY)
    return Choice(Method.END, f"{no_prefill}, and {no_replay}")


def replay_obstacle(asked: Asked, delivered: Delivered) -> str | None:
    """Return why the same request might not be answered with the same text again, or None."""
    if not delivered.n_texts:
        return None
    if asked.dialect is Dialect.OTHER or asked.value is None:
        return "this endpoint's streams cannot be compared"
    if is_greedy(asked.value) or (asked.dialect in _SEEDED and has_seed(asked.value)):
        return None
    return "its sampling cannot be repeated, for this endpoint takes no seed"


def prefill_obstacle(asked: Asked, delivered: Delivered) -> str | None:
    """Return why prompt + delivered tokens are not all there is to hand over, or None."""
    value = asked.value
    if value is None or asked.dialect not in (Dialect.NATIVE, Dialect.TEXT):
        return "this endpoint takes no token ids"
    if not delivered.ids or delivered.has_gap:
        return "not every token's id was shown"
    state = _state_beside_tokens(value)
    if state:
        return f"{state} holds state that tokens do not"
    limit = token_limit(value)
    if limit is not None and limit - len(delivered.shown_ids) <= 0:
        return "only its last event is missing"
    return None


def prefill_body(asked: Asked, prompt_ids: Sequence[int], shown_ids: Sequence[int]) -> bytes:
    """Return the body that goes on behind the tokens shown, with the limit lowered by them."""
    assert asked.value is not None
    value = {key: item for key, item in asked.value.items() if key not in LIMITS}
    limit = token_limit(asked.value)
    if limit is not None:
        value["n_predict"] = limit - len(shown_ids)
    return json.dumps({**value, "prompt": [*prompt_ids, *shown_ids]}).encode()


def token_limit(value: Mapping[str, Any]) -> int | None:
    """Return how many tokens may be generated, None for no limit; the first name that is there counts."""
    limit = next((value[name] for name in LIMITS if value.get(name) is not None), None)
    return limit if isinstance(limit, int) and limit >= 0 else None


def is_greedy(value: Mapping[str, Any]) -> bool:
    """Tell whether a request surely takes the likeliest token each time, whatever the defaults."""
    temperature = value.get("temperature")
    return isinstance(temperature, int | float) and temperature <= 0 and not value.get("dynatemp_range")


def has_seed(value: Mapping[str, Any]) -> bool:
    """Tell whether a request names a seed of its own."""
    seed = value.get("seed")
    return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < RANDOM_SEED


def append_fields(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """Write fields behind a JSON object's own, whose bytes stay; of two equal names the engine takes the last."""
    if not fields:
        return body
    head = body[: body.rindex(b"}")].rstrip()
    added = json.dumps(fields, separators=(",", ":")).encode()[1:]
    return head + (b"" if head.endswith(b"{") else b",") + added


def _state_beside_tokens(value: Mapping[str, Any]) -> str:
    """Return the name of a field that keeps prefill from being exact, or nothing."""
    if any((value.get(name) or 1) != 1 for name in ("n", "n_cmpl")):
        return "n"
    if (value.get("adaptive_target") or -1) >= 0:
        return "adaptive_target"
    if not _is_one_prompt(value.get("prompt")):
        return "prompt"
    return next((name for name in sorted(_STATE) if value.get(name)), "")


def _is_one_prompt(prompt: Any) -> bool:
    """Tell whether a prompt is one text, or one list of token ids (server-common.cpp, tokenize_input_prompts)."""
    if isinstance(prompt, list):
        return bool(prompt) and all(isinstance(item, int) and not isinstance(item, bool) for item in prompt)
    return isinstance(prompt, str)
