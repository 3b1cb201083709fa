"""What clients see of a real cluster: every endpoint, the official clients, the same text however it is split."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.engine.cluster import Cluster, command, demo, eventually, free_port
from tests.engine.prompts import PROMPTS

pytestmark = pytest.mark.engine


def test_the_curl_line_of_the_readme(cluster: Cluster):
    answer = httpx.post(
        f"{cluster.url}/completion",
        content='{"prompt":"Once upon a time","n_predict":32}',
        headers={"content-type": "application/x-www-form-urlencoded"},  # what curl -d sends
        trust_env=False,
    )
    assert answer.status_code == 200
    words = answer.json()["content"].split()
    assert len(words) > 10
    assert sum(word.strip('.,!?"').isalpha() for word in words) > 0.8 * len(words)


def test_eight_at_once_say_what_they_say_one_by_one(cluster: Cluster):
    prompts = PROMPTS[:8]
    alone = [cluster.complete(prompt, 48) for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: cluster.complete(prompt, 48), prompts))
    assert together == alone
    assert len(set(alone)) == 8, "a model that always says the same proves nothing"


def test_the_official_openai_client(cluster: Cluster):
    client = openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "Hello!"}]
    with client:
        whole = client.chat.completions.create(model="", messages=messages, max_tokens=24, temperature=0)
        parts: Any = client.chat.completions.create(
            model="", messages=messages, max_tokens=24, temperature=0, stream=True
        )
        streamed = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        plain = client.completions.create(model="", prompt="The little fox", max_tokens=8)
        vectors = client.embeddings.create(model="", input=["a red ball", "日本語"], encoding_format="float")
    assert whole.choices[0].message.content
    assert streamed == whole.choices[0].message.content
    assert plain.choices[0].text
    assert [len(item.embedding) for item in vectors.data] == [192, 192]


def test_three_slots_serve_completions_and_embeddings(tmp_path: Path):
    with demo(tmp_path, "--parallel", "3") as cluster:
        assert cluster.complete("Once upon a time")
        assert cluster.post("/v1/embeddings", {"input": "Once"}).json()["data"][0]["embedding"]


def test_texts_embedded_together_are_embedded_as_alone(cluster: Cluster):
    texts = ["Once upon a time", "The little fox", "It was raining and Anna was sad", "cat"]

    def vector(text: str) -> list[float]:
        embedding: list[float] = cluster.post("/v1/embeddings", {"input": text}).json()["data"][0]["embedding"]
        return embedding

    alone = [vector(text) for text in texts]
    with ThreadPoolExecutor(len(texts)) as pool:
        at_once = list(pool.map(vector, texts))
    in_one = cluster.post("/v1/embeddings", {"input": texts}).json()
    assert at_once == [pytest.approx(each, abs=1e-5) for each in alone]
    assert [item["embedding"] for item in in_one["data"]] == [pytest.approx(each, abs=1e-5) for each in alone]
    assert in_one["usage"]["prompt_tokens"] > len(texts)


def test_a_text_is_embedded_under_a_load_without_a_gap(tmp_path: Path):
    body = {"prompt": "The little fox", "n_predict": 120, "ignore_eos": True}
    over = threading.Event()

    def generate(number: int) -> None:
        time.sleep(0.3 * number)  # so that there is always one in the middle of its text
        while not over.is_set():
            cluster.post("/completion", body)

    with demo(tmp_path) as cluster, ThreadPoolExecutor(4) as pool:
        try:
            clients = [pool.submit(generate, number) for number in range(3)]
            eventually(lambda: cluster.get("/cluster").json()["traffic"]["running"] == len(clients), "a load", 20)
            for _ in range(3):
                assert cluster.post("/v1/embeddings", {"input": "a red ball"}).json()["data"]
        finally:
            over.set()
        assert [client.result() for client in clients] == [None] * 3


def test_the_official_anthropic_client(cluster: Cluster):
    client = anthropic.Anthropic(base_url=cluster.url, api_key="none", max_retries=0)
    with client:
        answer = client.messages.create(model="demo", max_tokens=16, messages=[{"role": "user", "content": "Hello!"}])
    assert answer.content[0].type == "text"
    assert answer.usage.output_tokens > 0


def test_the_other_endpoints(cluster: Cluster):
    assert cluster.post("/embeddings", {"content": "hello"}).json()[0]["embedding"]
    tokens = cluster.post("/tokenize", {"content": "Once upon a time 日本語 🎉"}).json()["tokens"]
    assert cluster.post("/detokenize", {"tokens": tokens}).json()["content"].strip() == "Once upon a time 日本語 🎉"
    assert cluster.get("/props").json()["total_slots"] == 8
    assert cluster.get("/v1/models").status_code == 200


def test_japanese_and_emoji_go_through_untouched(cluster: Cluster):
    body = {"prompt": "日本の都道府県 🎉", "n_predict": 4, "temperature": 0, "return_tokens": True}
    assert cluster.post("/completion", body).json()["prompt"].endswith("日本の都道府県 🎉")


def test_a_field_the_engine_does_not_know_is_named(cluster: Cluster):
    answer = cluster.post("/completion", {"prompt": "a", "n_predict": 1, "templature": 0.9})
    assert answer.headers["x-unknown-fields"] == "templature"


@pytest.mark.parametrize("body", [{"prompt": "a", "n_discard": -1}, {"prompt": "a", "n_predict": "many"}, {}])
def test_what_the_engine_refuses_is_its_own_400(cluster: Cluster, body: dict[str, object]):
    answer = cluster.post("/completion", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400


def test_a_body_that_is_no_json(cluster: Cluster):
    answer = httpx.post(f"{cluster.url}/completion", content="{", trust_env=False)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_a_client_that_leaves_frees_its_slot(cluster: Cluster):
    request = json.dumps({"prompt": "Once", "n_predict": -1, "ignore_eos": True, "stream": True})
    with closing(socket.create_connection(("127.0.0.1", cluster.port))) as client:
        head = f"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n"
        client.sendall(head.encode() + request.encode())
        assert b"200" in client.recv(64)
        assert busy(cluster) == 1
    eventually(lambda: busy(cluster) == 0, "the freeing of the slot", 2)


def busy(cluster: Cluster) -> int:
    """Return how many slots work."""
    return sum(slot["is_processing"] for slot in cluster.get("/slots").json())


def test_cluster_tells_the_truth(cluster: Cluster):
    seen = cluster.get("/cluster").json()
    assert seen["state"] == "ready"
    assert seen["pid"] == cluster.children("llama-server")[0].pid
    assert [backend["state"] for backend in seen["backends"]] == ["ok", "ok"]
    planned = {part["endpoint"]: part["weights_bytes"] for part in seen["plan"]["assignments"]}
    held = {label: part["model_bytes"] for label, part in seen["loaded"].items() if label in planned}
    assert set(held) == set(planned)
    assert all(abs(held[label] - planned[label]) < 1 << 16 for label in held)


@pytest.mark.parametrize("backends", [2, 3])
def test_the_text_is_that_of_one_plain_llama_server(tmp_path: Path, backends: int):
    # RPC workers do not repack weights, so neither may the one they are compared with.
    with demo(tmp_path, "--", "--no-repack", "--threads", "1", backends=0) as plain:
        expected = [plain.complete(prompt) for prompt in PROMPTS]
    with demo(tmp_path, backends=backends) as split:
        assert len(split.children("ggml-rpc-server")) == backends
        assert [split.complete(prompt) for prompt in PROMPTS] == expected


def test_sigterm_ends_a_demo_with_nothing_left(tmp_path: Path):
    with demo(tmp_path) as running:
        assert running.stop(signal.SIGTERM, deadline_s=5) == 0


def test_once_answers_and_exits(tmp_path: Path):
    port = free_port()
    with command(tmp_path, port, "demo", "--port", str(port), "--once", "Once upon a time") as running:
        assert running.process.wait(60) == 0
        assert "Once upon a time" in running.text()
