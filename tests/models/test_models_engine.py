"""The real llama-server loads what our scripts make, and the demo model speaks."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest
from gguf import GGUFReader

from rpc_wrapper.engine.binaries import find_engine
from rpc_wrapper.synthetic.shapes import SHAPES
from rpc_wrapper.synthetic.writer import write_model
from scripts.demo_model.stories import story
from scripts.demo_model.talk import chat, short_text
from scripts.demo_model.tokenizer import PieceType, Tokenizer

pytestmark = pytest.mark.engine

DEMO = Path(__file__).parent.parent.parent / "models" / "demo.gguf"
DEADLINE_S = 60.0
PROMPTS = (
    "Once upon a time",
    "There once was a brave girl named Anna.",
    "Long ago there lived a clever boy named Tom.",
    "The little fox",
    "In the garden there",
    "My name is",
    "Hello, my name is Leo",
    "Dear Mia,",
    "Building a website can be done in 10 simple steps:",
    "Baking a cake can be done in",
    "Question: What is the capital of France?",
    "It was raining and",
    "The dog ran to the",
    "On the third day",
    "At last",
    "Suddenly they heard",
    "I believe the meaning of life is",
    "The owl is",
    "Kenji sat down and wrote a letter to",
    "In the village there are",
)
"""Twenty ways to begin."""


@contextmanager
def serving(model: Path, log: Path) -> Iterator[httpx.Client]:
    """Run one llama-server over a model, wait until it is healthy, and stop it by a single SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "-c", "1024", "-np", "1", "-t", "2", "--no-warmup"]
    with log.open("wb") as output:
        argv = [str(find_engine(None).server), "-m", str(model), *options]
        child = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S, trust_env=False) as client:
            _wait_until_healthy(client, child, log)
            yield client
    finally:
        child.terminate()
        child.wait(DEADLINE_S)


def _wait_until_healthy(client: httpx.Client, child: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        assert child.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"llama-server was not healthy within {DEADLINE_S:g} s")


def complete(client: httpx.Client, prompt: str, tokens: int) -> str:
    """Return the greedy continuation of a prompt."""
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "repeat_penalty": 1.0, "cache_prompt": False}
    text = client.post("/completion", json=body).raise_for_status().json()["content"]
    assert isinstance(text, str)
    return text


def ask(client: httpx.Client, *contents: str) -> dict[str, object]:
    """Return the first choice of a greedy chat completion; the contents are turns of user and assistant."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    body = {"messages": messages, "temperature": 0, "max_tokens": 64}
    choice = client.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]
    assert isinstance(choice, dict)
    return {"text": choice["message"]["content"], "finish": choice["finish_reason"]}


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, without signs."""
    return re.findall(r"[a-z']+", text.lower())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(DEMO, tmp_path_factory.mktemp("demo") / "server.log") as client:
        yield client


@pytest.fixture(scope="module")
def stories(demo: httpx.Client) -> dict[str, str]:
    return {prompt: complete(demo, prompt, 96) for prompt in PROMPTS}


def test_demo_tells_twenty_different_stories(stories: dict[str, str]) -> None:
    assert len(set(stories.values())) == len(PROMPTS)


def test_demo_uses_real_words(stories: dict[str, str]) -> None:
    rng = Random(0)
    known = {word for _ in range(400) for text in (story(rng), short_text(rng)) for word in words(text)}
    known |= {word for _ in range(200) for _, text in chat(rng) for word in words(text)}
    for prompt, text in stories.items():
        spoken = words(text)
        assert sum(word in known for word in spoken) >= 0.6 * len(spoken), (prompt, text)


def test_demo_does_not_go_round_in_circles(demo: httpx.Client) -> None:
    spoken = words(complete(demo, "Once upon a time there was a kind girl named Clara.", 256))
    assert len(spoken) > 120
    runs = list(zip(*(spoken[start:] for start in range(8)), strict=False))
    assert len(set(runs)) >= 0.9 * len(runs)


@pytest.mark.parametrize("text", ["日本語 🎉", "Once upon a time", " two  spaces\n\ttab", "naïve <s> café", "10 + 5"])
def test_tokens_are_ours_and_come_back_as_the_same_text(demo: httpx.Client, text: str) -> None:
    fields = GGUFReader(DEMO).fields
    kinds = [PieceType(kind) for kind in fields["tokenizer.ggml.token_type"].contents()]
    ours = Tokenizer(fields["tokenizer.ggml.tokens"].contents(), kinds)
    ids = demo.post("/tokenize", json={"content": text, "parse_special": False}).json()["tokens"]
    assert ids == ours.encode(text)
    assert demo.post("/detokenize", json={"tokens": ids}).json()["content"] == text


@pytest.mark.parametrize("question", ["What is the capital of France?", "What does a cat say?", "How are you?"])
def test_demo_answers_in_a_sentence_and_stops_by_itself(demo: httpx.Client, question: str) -> None:
    answer = ask(demo, question)
    assert answer["finish"] == "stop"
    assert len(words(str(answer["text"]))) >= 3
    assert str(answer["text"])[-1] in ".?!"


def test_demo_goes_on_with_a_conversation(demo: httpx.Client) -> None:
    hello = ask(demo, "Hello")["text"]
    assert "sky" in words(str(ask(demo, "Hello", str(hello), "What colour is the sky?")["text"]))


def test_demo_speaks_in_bytes_too(demo: httpx.Client) -> None:
    text = str(ask(demo, "How do you say thank you in Japanese?")["text"])
    assert any("\u3040" <= letter <= "\u309f" for letter in text), text
    assert "\ufffd" not in text


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_loads_and_answers(name: str, tmp_path: Path) -> None:
    shape, model = replace(SHAPES[name], vocab=4096), tmp_path / "m.gguf"
    shape = shape if shape.width < 1024 else replace(shape, blocks=2)
    write_model(model, shape, "q4_k" if shape.width % 256 == 0 else "q8_0")
    with serving(model, tmp_path / "server.log") as client:
        body = {"prompt": "Once upon a time", "n_predict": 4, "temperature": 0, "n_probs": 2}
        answer = client.post("/completion", json=body).raise_for_status().json()
    assert len(answer["completion_probabilities"]) >= 1
    first, second = answer["completion_probabilities"][0]["top_logprobs"]
    assert first["logprob"] > second["logprob"] > -100  # numbers, neither NaN nor all the same


@pytest.mark.parametrize("quant", ["q4_0", "q8_0", "f16", "f32"])
def test_every_quantisation_loads_and_answers(quant: str, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    write_model(model, replace(SHAPES["demo-like"], blocks=2), quant)
    with serving(model, tmp_path / "server.log") as client:
        assert complete(client, "Once upon a time", 4)
