"""``ask`` and ``chat`` against a real cluster; chat in a real terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.engine.cluster import Cluster, demo

TOKEN = re.compile(r"\[Token (\d+)\] (.+) \| server (\d+\.\d+) s \| network \+ backends (\d+\.\d+) s")
COLOUR = re.compile(r"\x1b\[\d*m")
DEADLINE_S = 40.0


def environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}
    return kept | {"COLUMNS": "200", "TERM": "dumb"} | more


def ask(cluster: Cluster, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rpc_wrapper", "ask", "--url", cluster.url, *arguments]
    return subprocess.run(
        command, input=stdin, env=environ(**more), capture_output=True, text=True, timeout=60, check=False
    )


def test_each_token_is_split_into_server_and_backends(cluster):
    done = ask(cluster, "How do I bake a cake?", "--max-new-tokens", "12")
    assert done.returncode == 0, done.stderr
    tokens = TOKEN.findall(done.stdout)
    assert [int(number) for number, *_ in tokens] == list(range(1, 13))
    remote_s = sum(float(each[3]) for each in tokens)
    assert remote_s > 0
    told = re.search(r"Server (\S+) s, network and backends (\S+) s; the longest round trip", done.stdout)
    assert told is not None
    assert float(told[2]) == pytest.approx(remote_s, abs=0.002)


def test_a_slow_network_shows_up_as_network(tmp_path):
    with demo(tmp_path, "--latency-min", "0.02", "--latency-max", "0.02", backends=1) as slow:
        done = ask(slow, "How do I bake a cake?", "--max-new-tokens", "6")
    tokens = TOKEN.findall(done.stdout)
    assert len(tokens) == 6, done.stderr
    waits_s = [float(each[3]) for each in tokens[1:]]
    assert sum(waits_s) / len(waits_s) >= 0.04  # there and back


def test_the_prompt_comes_from_the_first_place_that_has_one(cluster):
    def answer(*arguments: str, stdin: str = "", **more: str) -> str:
        done = ask(cluster, "-q", *arguments, stdin=stdin, MAX_NEW_TOKENS="8", USE_CHAT_TEMPLATE="false", **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    sea, cake = "The sea is", "Baking a cake"
    wanted = answer(cake)
    assert answer("--prompt", cake, PROMPT=sea) == wanted
    assert answer(PROMPT=cake, DEFAULT_PROMPT=sea) == wanted
    assert answer(DEFAULT_PROMPT=cake) == wanted
    assert answer(stdin=f"{cake}\n") == wanted
    assert answer(sea) != wanted
    assert wanted.strip() == cluster.complete(cake, 8).strip()


def test_template_and_system_prompt_are_honoured(cluster):
    def answer(**more: str) -> str:
        return ask(cluster, "-q", "Who are you?", MAX_NEW_TOKENS="16", **more).stdout.strip()

    def wanted(system: str) -> str:
        messages = [{"role": "system", "content": system}] if system else []
        body = {
            "messages": [*messages, {"role": "user", "content": "Who are you?"}],
            "max_tokens": 16,
            "temperature": 0,
        }
        reply = cluster.post("/v1/chat/completions", body).json()
        return str(reply["choices"][0]["message"]["content"]).strip()

    assert answer() == wanted("You are a helpful assistant.")
    assert answer(SYSTEM_PROMPT="") == wanted("")
    assert answer(USE_CHAT_TEMPLATE="0") == cluster.complete("Who are you?", 16).strip()


def test_nothing_asked_is_one_sentence(cluster):
    done = ask(cluster)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing is asked" in done.stderr
    assert "Traceback" not in done.stderr


@dataclass
class Terminal:
    """The other side of a pseudo terminal."""

    process: "subprocess.Popen[bytes]"
    fd: int
    seen: str = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, pattern: str) -> str:
        """Return what was shown up to a pattern, and forget it; fail with everything when it does not come."""
        end = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{pattern!r} never came; the terminal shows:\n{self.seen}"
            text = os.read(self.fd, 65536).decode(errors="replace").replace("\r\n", "\n")
            self.seen = COLOUR.sub("", self.seen + text)
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown


@contextmanager
def chat(cluster: Cluster, *arguments: str) -> Iterator[Terminal]:
    """Run ``chat`` in a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rpc_wrapper", "chat", "--url", cluster.url, "--temperature", "0", *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ(), start_new_session=True, close_fds=True
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_conversation_in_a_terminal(cluster, tmp_path):
    (tmp_path / "questions").write_text("How do I bake a cake?\n\nWho are you?\n")
    with chat(cluster, "--max-tokens", "12", "--questions", str(tmp_path / "questions")) as terminal:
        assert "1. How do I bake a cake?" in terminal.until("> ")
        terminal.type("1\n")
        assert re.search(r"first token \d+\.\d+ s, 12 tokens in", terminal.until(r"tokens/s\)\n"))
        terminal.until("> ")
        terminal.type("/stats\n")
        stats = terminal.until(r"blocks .*\n")
        assert "All 1 answers" in stats
        assert "is ready" in stats
        terminal.until("> ")
        terminal.type("/reset\n")
        assert "forgotten" in terminal.until("> ")
        terminal.type("/oops\n")
        assert "/oops is no command" in terminal.until("> ")
        terminal.type("quit\n")
        assert terminal.process.wait(DEADLINE_S) == 0


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(tmp_path):
    delay = ("--token-delay-min-s", "0.2", "--token-delay-max-s", "0.2")
    with demo(tmp_path, *delay, backends=0) as slow, chat(slow, "--max-tokens", "400") as terminal:
        terminal.until("> ")
        terminal.type("Tell me a short story about a dog.\n")
        terminal.until(r"dog\.\n\S")  # the first token
        os.killpg(terminal.process.pid, signal.SIGINT)  # what the terminal's driver does at Ctrl-C
        terminal.until(r"\(stopped\)\n> ")
        terminal.type("/stats\n")
        assert "All" not in terminal.until(r"is ready.*\n")
        terminal.type("exit\n")
        assert terminal.process.wait(DEADLINE_S) == 0


def test_the_conversation_is_remembered(cluster):
    with chat(cluster, "--max-tokens", "10") as terminal:
        terminal.until("> ")
        terminal.type("Who are you?\n")
        first = terminal.until(r"\(first token")
        terminal.until("> ")
        terminal.type("Who are you?\n")
        again = terminal.until(r"\(first token")
    said = first.split("\n", 1)[1].rsplit("\n", 1)[0]
    history = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": said}]
    body = {"messages": [*history, history[0]], "max_tokens": 10, "temperature": 0}
    reply = cluster.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    assert reply.split("\n")[0].strip() in again
