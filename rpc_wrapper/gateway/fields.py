"""Request fields that llama-server does not read, so that a misspelt one is named instead of ignored.

The tables follow the pinned source: ``server-schema.cpp`` (sampling and generation), ``server-common.cpp``
(``oaicompat_*_params_parse``), ``server-chat.cpp`` (Responses and Messages) and the handlers in ``server-context.cpp``.
"""

import json
from collections.abc import Collection
from typing import Any, NoReturn
from urllib.parse import quote

from rpc_wrapper.gateway.endpoints import Shape
from rpc_wrapper.gateway.errors import Refusal, not_json

MAX_NAMES = 16  # a header has its limits, and sixteen misspellings are enough to act on
MAX_NAME_CHARS = 64


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They belong to the APIs by design without changing an answer, so naming them would be noise.
_INERT = _names("model user metadata store service_tier safety_identifier prompt_cache_key")

_GENERATION = _names(
    """
    verbose timings_per_token stream stream_options cache_prompt return_tokens return_progress sse_ping_interval
    n_predict max_tokens max_completion_tokens n_indent n_keep n_discard n_cmpl n n_cache_reuse t_max_predict_ms
    response_fields id_slot message_delimiters
    top_k top_p min_p top_n_sigma xtc_probability xtc_threshold typical_p temperature dynatemp_range
    dynatemp_exponent repeat_last_n repeat_penalty frequency_penalty presence_penalty
    dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers
    mirostat mirostat_tau mirostat_eta adaptive_target adaptive_decay seed n_probs logprobs min_keep
    backend_sampling post_sampling_probs samplers logit_bias ignore_eos stop lora
    json_schema grammar grammar_type grammar_lazy grammar_triggers preserved_tokens
    chat_format chat_parser generation_prompt parse_tool_calls continue_final_message echo
    reasoning_format reasoning_control reasoning_budget_tokens reasoning_budget_start_tag
    reasoning_budget_end_tag reasoning_budget_end_tags reasoning_budget_message
    """
)
_CHAT = _GENERATION | _names(
    """
    messages tools tool_choice parallel_tool_calls response_format add_generation_prompt chat_template_kwargs
    reasoning_effort thinking_budget_tokens top_logprobs
    """
)
_KNOWN: dict[Shape, frozenset[str]] = {
    # best_of and suffix are read too: the engine refuses them by name
    Shape.COMPLETION: _GENERATION | _names("prompt best_of suffix"),
    Shape.CHAT: _CHAT,
    Shape.RESPONSES: _CHAT | _names("input instructions max_output_tokens reasoning previous_response_id"),
    Shape.MESSAGES: _names(
        """
        system messages tools tool_choice stop_sequences max_tokens temperature top_p top_k stream thinking
        chat_template_kwargs
        """
    ),
    Shape.INFILL: _GENERATION | _names("prompt input_prefix input_suffix input_extra"),
    Shape.EMBEDDING: _names("input content encoding_format embd_normalize"),
    Shape.RERANK: _names("query documents texts top_n return_text"),
    Shape.TRANSCRIPTION: _CHAT | _names("file prompt language"),
    Shape.TOKENIZE: _names("content add_special parse_special with_pieces"),
    Shape.DETOKENIZE: _names("tokens"),
    Shape.CONTROL: _names("id action"),
}


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a request body as the engine does: one JSON object in UTF-8; raise Refusal (400) saying what is wrong."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Refusal(not_json(f"{error.msg} at line {error.lineno}, column {error.colno}")) from None
    except UnicodeDecodeError as error:
        raise Refusal(not_json(f"byte {error.start} is not UTF-8")) from None
    except RecursionError:
        raise Refusal(not_json("it is nested too deeply")) from None
    except ValueError as error:
        raise Refusal(not_json(str(error))) from None
    if not isinstance(value, dict):
        raise Refusal(not_json(f"it is a {type(value).__name__}"))
    return value


def unknown_fields(shape: Shape, names: Collection[str]) -> tuple[str, ...]:
    """Return the names that an endpoint of this shape does not read, in the request's order."""
    known = _KNOWN.get(shape)
    if known is None:
        return ()
    return tuple(name for name in names if name not in known and name not in _INERT)


def header_value(names: Collection[str]) -> bytes:
    """Write names as one header value: comma-separated, everything but plain ASCII percent-encoded."""
    shown = [quote(name[:MAX_NAME_CHARS], safe=" !#$&'*+/:;=?@[]^`|{}~") for name in list(names)[:MAX_NAMES]]
    return ", ".join(shown).encode("ascii")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
