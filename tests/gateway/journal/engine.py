"""llama-server's streams as functions: what each API says for given tokens, with an engine's own ids and numbers.

The text is a script that the length of the context points into, so prompt + delivered tokens goes on with the same
text. Its characters of three and four bytes are byte tokens: their ids never show. Nothing of the package is imported,
so that a server of it starts at once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WORDS = [" the", " cat", "", ",", " 日本", " ran", ' \\"quoted\\"', '{"a":1}', " x"]  # the third is a control token
FIRST_WORD = 256
SCRIPT = [256, 257, *"あ".encode(), 258, 260, *"🙂".encode(), 259, 261, *"猫".encode(), 262, 263, 264]
STATUS = {"truncated": False, "stop_type": "limit", "stopping_word": "", "has_new_line": False}


def piece(token: int) -> bytes:
    """Return a token's bytes."""
    return bytes([token]) if token < FIRST_WORD else WORDS[token - FIRST_WORD].encode()


def tokenize(text: str) -> list[int]:
    """Return one id per byte."""
    return list(text.encode())


def detokenize(ids: list[int]) -> str:
    """Return the text of ids."""
    return b"".join(map(piece, ids)).decode(errors="replace")


def continuation(context: list[int], count: int) -> list[int]:
    """Return the ids that follow a context."""
    start = len(context)
    return [SCRIPT[(start + i) % len(SCRIPT)] for i in range(count)]


@dataclass(frozen=True)
class Shown:
    """What a chunk shows: the text that is whole characters by now, the last id, and how many there were."""

    text: str
    token: int
    predicted: int


def shown(tokens: list[int]) -> Iterator[Shown]:
    """Return the chunks of some tokens: none while a character is incomplete (server-context.cpp, process_token)."""
    held = b""
    for index, token in enumerate(tokens):
        held += piece(token)
        try:
            text = held.decode()
        except UnicodeDecodeError:
            continue
        held = b""
        yield Shown(text, token, index + 1)


def stream(dialect: str, body: dict[str, Any], tag: str) -> Iterator[bytes]:
    """Return the events of an answer; ``tag`` makes the ids of one engine differ from those of another."""
    prompt = prompt_of(body)
    limit = body.get("n_predict", body.get("max_tokens", body.get("max_output_tokens", 8)))
    maker = {
        "native": native,
        "text": text_completion,
        "chat": chat,
        "messages": messages,
        "responses": responses,
    }[dialect]
    return maker(body, prompt, continuation(prompt, limit), tag)


def prompt_of(body: dict[str, Any]) -> list[int]:
    """Return the prompt's ids, whatever the API calls it."""
    prompt = body.get("prompt", body.get("input"))
    if prompt is None:
        prompt = "".join(message["content"] for message in body["messages"])
    return prompt if isinstance(prompt, list) else tokenize(prompt)


def event(value: dict[str, Any], name: str = "") -> bytes:
    """Write one event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def part_of(one: Shown, prompt: list[int]) -> dict[str, Any]:
    head = {"index": 0, "content": one.text, "tokens": [one.token], "stop": False, "id_slot": -1}
    return {**head, "tokens_predicted": one.predicted, "tokens_evaluated": len(prompt)}


def last_of(body: dict[str, Any], prompt: list[int], tokens: list[int]) -> dict[str, Any]:
    counts = {"tokens_predicted": len(tokens), "tokens_evaluated": len(prompt)}
    limits = {"n_predict": len(tokens), "max_tokens": len(tokens), "seed": body.get("seed", 0xFFFFFFFF)}
    head = {"index": 0, "content": "", "tokens": [], "id_slot": 1, "stop": True, **counts, **STATUS}
    text = {"generation_settings": limits, "prompt": detokenize(prompt)}
    return {**head, **text, "tokens_cached": len(prompt) + len(tokens), "timings": timings(prompt, tokens)}


def timings(prompt: list[int], tokens: list[int]) -> dict[str, Any]:
    """Return the timings of a run of 2 ms per token in and 10 ms per token out, one token cached."""
    read = {"cache_n": 1, "prompt_n": len(prompt) - 1, "prompt_ms": 2.0 * (len(prompt) - 1)}
    return {**read, "predicted_n": len(tokens), "predicted_ms": 10.0 * len(tokens)}


def usage(prompt: list[int], tokens: list[int]) -> dict[str, Any]:
    counts = {"completion_tokens": len(tokens), "prompt_tokens": len(prompt), "total_tokens": len(prompt) + len(tokens)}
    return {**counts, "prompt_tokens_details": {"cached_tokens": len(prompt) - 1}}


def progress(body: dict[str, Any], prompt: list[int], value: dict[str, Any]) -> Iterator[bytes]:
    if body.get("return_progress"):
        for processed in (1, len(prompt)):
            yield event({**value, "prompt_progress": {"total": len(prompt), "cache": 1, "processed": processed}})


def native(body: dict[str, Any], prompt: list[int], tokens: list[int], tag: str) -> Iterator[bytes]:
    yield from progress(body, prompt, part_of(Shown("", 0, 0), prompt))
    for one in shown(tokens):
        yield event(part_of(one, prompt))
    yield event(last_of(body, prompt, tokens))


def text_completion(body: dict[str, Any], prompt: list[int], tokens: list[int], tag: str) -> Iterator[bytes]:
    def chunk(text: str, verbose: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        head = {"choices": [choice], "created": ord(tag[-1]), "object": "text_completion", **more, "id": f"cmpl-{tag}"}
        return {**head, "__verbose": verbose} if body.get("verbose") else head

    yield from progress(body, prompt, chunk("", part_of(Shown("", 0, 0), prompt)))
    for one in shown(tokens):
        yield event(chunk(one.text, part_of(one, prompt)))
    last = chunk("", last_of(body, prompt, tokens), "length", usage=usage(prompt, tokens))
    yield event({**last, "timings": timings(prompt, tokens)})
    yield b"data: [DONE]\n\n"


def chat(body: dict[str, Any], prompt: list[int], tokens: list[int], tag: str) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
        choices = [] if delta is None else [{"finish_reason": finish, "index": 0, "delta": delta}]
        return {"choices": choices, "created": ord(tag[-1]), "id": f"chatcmpl-{tag}", "object": "chat.completion.chunk"}

    role = {"role": "assistant", "content": None}
    yield from progress(body, prompt, chunk(role))
    for one in shown(tokens):
        if one.predicted == 1:
            yield event(chunk(role))
        if one.text:
            yield event(chunk({"content": one.text}))
    yield event(chunk({}, "length"))
    yield event({**chunk(None), "usage": usage(prompt, tokens)})
    yield b"data: [DONE]\n\n"


def messages(body: dict[str, Any], prompt: list[int], tokens: list[int], tag: str) -> Iterator[bytes]:
    def named(name: str, **value: Any) -> bytes:
        return event({"type": name, **value}, name)

    yield named("message_start", message={"id": f"msg-{tag}", "usage": {"input_tokens": len(prompt)}})
    yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for one in shown(tokens):
        if one.text:
            yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": one.text})
    yield named("content_block_stop", index=0)
    yield named("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": len(tokens)})
    yield named("message_stop")


def responses(body: dict[str, Any], prompt: list[int], tokens: list[int], tag: str) -> Iterator[bytes]:
    def named(name: str, **value: Any) -> bytes:
        return event({"type": f"response.{name}", **value}, f"response.{name}")

    item = {"id": f"msg_{tag}", "type": "message", "role": "assistant"}
    yield named("created", response={"id": f"resp_{tag}", "status": "in_progress"})
    yield named("output_item.added", item={**item, "content": []})
    for one in shown(tokens):
        if one.text:
            yield named("output_text.delta", item_id=f"msg_{tag}", delta=one.text)
    text = "".join(one.text for one in shown(tokens))
    yield named("output_item.done", item={**item, "content": [{"type": "output_text", "text": text}]})
    yield named("completed", response={"id": f"resp_{tag}", "usage": usage(prompt, tokens)})
