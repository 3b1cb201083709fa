"""What this package relies on in the pinned engine: a test fails here when one of these facts stops being true."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from rpc_wrapper.engine.args import ServerOptions, server_argv, server_environ
from rpc_wrapper.engine.binaries import Engine, find_engine
from rpc_wrapper.engine.flags import accepted_flags
from rpc_wrapper.engine.loadlog import Failure, LoadLog, classify
from rpc_wrapper.engine.selftest import compute_here

pytestmark = pytest.mark.engine

MODEL = Path(__file__).parents[2] / "models" / "demo.gguf"
KEY = "sk-facts"
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def engine() -> Engine:
    return find_engine()


@pytest.fixture(scope="module")
def model() -> Path:
    assert MODEL.exists(), f"{MODEL.name} is missing: it is committed with the project"
    return MODEL


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def finish(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run a program that ends by itself."""
    return subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )


@contextlib.contextmanager
def running(argv: list[str], listens: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a program until it has said where it listens; yields it with all its lines so far, which keep growing."""
    lines: list[str] = []
    ready = threading.Event()
    child = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=server_environ(os.environ, KEY),
        start_new_session=True,
    )

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if f":{listens}" in line and "listening" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(DEADLINE_S), "".join(lines)
        yield child, lines
    finally:
        child.kill()
        child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()


@dataclass(frozen=True)
class Workers:
    endpoints: tuple[str, ...]
    processes: tuple[subprocess.Popen[bytes], ...]


@pytest.fixture
def workers(engine: Engine) -> Iterator[Workers]:
    """Run two workers. The engine opens many short connections while it starts, so nothing here connects to them."""
    ports = (free_port(), free_port())
    children = tuple(
        subprocess.Popen([str(engine.worker), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL)
        for port in ports
    )
    for port in ports:
        await_port(port)
    yield Workers(tuple(f"127.0.0.1:{port}" for port in ports), children)
    for child in children:
        child.kill()
        child.wait()


def await_port(port: int) -> None:
    """Wait until the kernel lists the port as listening, without connecting to it."""
    entry = f"0100007F:{port:04X} 00000000:0000 0A"
    gone_by = threading.Event()
    for _ in range(int(DEADLINE_S / 0.02)):
        if entry in Path("/proc/net/tcp").read_text():
            return
        gone_by.wait(0.02)
    pytest.fail(f"port {port} never listened")


def argv_of(engine: Engine, options: ServerOptions) -> list[str]:
    return server_argv(engine.server, options, accepted_flags(engine.server))


def over(workers: Workers, model: Path, split: str = "5,4", **changes: object) -> ServerOptions:
    options = ServerOptions(
        model,
        port=free_port(),
        endpoints=workers.endpoints,
        placement=("--device", "RPC0,RPC1", "--tensor-split", split, "-ngl", "99"),
        ctx_size=256,
        n_parallel=2,
        threads=1,
    )
    return replace(options, **changes)  # type: ignore[arg-type]


def ask(port: int, method: str, path: str, **content: object) -> httpx.Response:
    return httpx.request(
        method,
        f"http://127.0.0.1:{port}{path}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=DEADLINE_S,
        trust_env=False,
        **content,  # type: ignore[arg-type]
    )


# The worker.


def test_the_protocol_is_7(engine):
    assert engine.protocol == "7.0.0"


def test_a_worker_ends_with_0_on_an_unknown_argument(engine):
    done = finish(engine.worker, "--mem", "1024")
    assert done.returncode == 0
    assert "error: unknown argument: --mem" in done.stderr


def test_a_worker_knows_no_memory_limit(engine):
    assert not {"-m", "--mem"} & accepted_flags(engine.worker)


def test_a_worker_ends_with_0_on_a_host_name(engine):
    done = finish(engine.worker, "-H", "localhost", "-p", free_port())
    assert done.returncode == 0
    assert "Invalid host address" in done.stderr


def test_a_worker_ends_with_0_on_a_taken_port(engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = finish(engine.worker, "-p", taken.getsockname()[1])
    assert done.returncode == 0
    assert classify((done.stdout + done.stderr).splitlines(), done.returncode) is Failure.PORT_TAKEN


def test_a_worker_into_a_pipe_says_nothing_before_its_first_client(engine):
    port = free_port()
    child = subprocess.Popen([str(engine.worker), "-p", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        assert child.stdout.read() is None
        os.set_blocking(child.stdout.fileno(), True)
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S):
            assert child.stdout.readline().startswith(b"Starting RPC server v7")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]


# How llama-server refuses to start.


@pytest.mark.parametrize(
    ("arguments", "returncode", "failure"),
    [
        (("--rpc", "127.0.0.1:1"), -signal.SIGABRT, Failure.CANNOT_CONNECT),
        (("--device", "RPC0"), 1, Failure.BAD_ARGUMENT),
        (("--device", "CPU"), 1, Failure.BAD_ARGUMENT),
        (("--nonsense",), 1, Failure.BAD_ARGUMENT),
    ],
)
def test_a_refused_start_has_a_cause(engine, model, arguments, returncode, failure):
    done = finish(engine.server, "-m", model, "--port", free_port(), *arguments)
    assert done.returncode == returncode
    assert classify((done.stdout + done.stderr).splitlines(), done.returncode) is failure


def test_rpc_must_come_before_device(engine, model, workers):
    before = ("--device", "RPC0", "--rpc", workers.endpoints[0])
    done = finish(engine.server, "-m", model, "--port", free_port(), *before)
    assert done.returncode == 1
    assert "invalid device: RPC0" in done.stderr + done.stdout


def test_a_file_that_is_no_model_has_a_cause(engine, tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_text("hello")
    done = finish(engine.server, "-m", bad, "--port", free_port())
    assert classify((done.stdout + done.stderr).splitlines(), done.returncode) is Failure.BAD_MODEL


def test_a_truncated_model_has_a_cause(engine, model, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    done = finish(engine.server, "-m", cut, "--port", free_port())
    assert classify((done.stdout + done.stderr).splitlines(), done.returncode) is Failure.BAD_MODEL


def test_a_taken_http_port_has_a_cause(engine, model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = finish(engine.server, "-m", model, "--host", "127.0.0.1", "--port", taken.getsockname()[1])
    assert classify((done.stdout + done.stderr).splitlines(), done.returncode) is Failure.PORT_TAKEN


# What llama-server says about its load.


def load_log(engine: Engine, options: ServerOptions) -> tuple[LoadLog, list[str]]:
    log = LoadLog()
    with running(argv_of(engine, options), options.port) as (_, lines):
        for line in list(lines):
            log.feed(line)
        return log, list(lines)


def test_integer_shares_are_exact_and_both_verbosities_agree(engine, model, workers):
    quiet, _ = load_log(engine, over(workers, model))
    loud, lines = load_log(engine, over(workers, model, verbosity=5))
    assert any(re.search(r"layer\s+8 assigned to device RPC1", line) for line in lines)
    assert quiet.placement == loud.placement == dict(enumerate(["RPC0"] * 5 + ["RPC1"] * 4))
    assert quiet.blocks() == {workers.endpoints[0]: 5, workers.endpoints[1]: 3}
    assert (quiet.offloaded, quiet.ctx_per_slot, quiet.pipeline_parallel) == ((9, 9), 256, True)


def test_fewer_gpu_layers_leave_the_first_blocks_on_the_host(engine, model, workers):
    placement = ("--device", "RPC0,RPC1", "--tensor-split", "2,4", "-ngl", "6")
    log, _ = load_log(engine, over(workers, model, placement=placement))
    assert tuple(log.placement.values()) == ("CPU",) * 3 + ("RPC0",) * 2 + ("RPC1",) * 4


def test_an_output_alone_on_the_last_device_is_seen(engine, model, workers):
    log, _ = load_log(engine, over(workers, model, split="8,1"))
    assert tuple(log.placement.values()) == ("RPC0",) * 8 + ("RPC1",)


def test_tensor_mode_reports_one_device(engine, model, workers):
    placement = ("--device", "RPC0,RPC1", "--split-mode", "tensor", "-ngl", "99")
    log, _ = load_log(engine, over(workers, model, placement=placement))
    assert log.tensor_parallel
    assert log.placement == {}


# What llama-server does when it serves.


def test_no_prompt_text_is_logged_at_our_verbosity_but_it_is_one_above(engine, model, workers):
    """At -lv 5 a slot that is launched again is dumped with the text of the request before."""
    for verbosity, leaks in ((4, False), (5, True)):
        options = over(workers, model, verbosity=verbosity, n_parallel=1)
        with running(argv_of(engine, options), options.port) as (child, lines):
            for _ in range(2):
                assert ask(options.port, "POST", "/completion", json={"prompt": "zebra", "n_predict": 4}).is_success
            child.send_signal(signal.SIGTERM)
            child.wait(DEADLINE_S)
        assert any("zebra" in line for line in lines) is leaks


def test_completions_embeddings_metrics_and_slots_come_from_one_process(engine, model, workers):
    options = over(workers, model)
    with running(argv_of(engine, options), options.port) as (child, _):
        answer = ask(options.port, "POST", "/completion", json={"prompt": "Once", "n_predict": 4, "ignore_eos": True})
        assert answer.json()["tokens_predicted"] == 4
        assert ask(options.port, "POST", "/v1/embeddings", json={"input": "Once"}).json()["data"][0]["embedding"]
        assert "llamacpp:" in ask(options.port, "GET", "/metrics").text
        assert len(ask(options.port, "GET", "/slots").json()) == 2
        assert ask(options.port, "POST", "/completion", json={"prompt": "a", "n_discard": -1}).status_code == 400
        child.send_signal(signal.SIGTERM)
        assert child.wait(DEADLINE_S) == 0


def test_the_key_from_the_environment_is_demanded(engine, model):
    options = ServerOptions(model, port=free_port(), ctx_size=256, n_parallel=1)
    with running(argv_of(engine, options), options.port) as (_, lines):
        url = f"http://127.0.0.1:{options.port}/props"
        assert httpx.get(url, trust_env=False).status_code == 401
        assert ask(options.port, "GET", "/props").is_success
        assert not any(KEY in line for line in lines)


def test_a_lost_worker_aborts_the_server(engine, model, workers):
    options = over(workers, model)
    with running(argv_of(engine, options), options.port) as (child, lines):
        workers.processes[1].kill()
        with contextlib.suppress(httpx.HTTPError):
            ask(options.port, "POST", "/completion", json={"prompt": "Once", "n_predict": 4})
        assert child.wait(DEADLINE_S) == -signal.SIGABRT
    assert classify(lines, child.returncode) is Failure.BACKEND_LOST


def test_health_stays_ok_while_a_worker_is_silent(engine, model, workers):
    options = over(workers, model)
    with running(argv_of(engine, options), options.port) as (child, _):
        workers.processes[0].send_signal(signal.SIGSTOP)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"http://127.0.0.1:{options.port}/completion",
                json={"prompt": "Once", "n_predict": 4},
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=1.0,
                trust_env=False,
            )
        assert ask(options.port, "GET", "/health").json() == {"status": "ok"}
        assert child.poll() is None


def test_the_engine_computes_on_this_cpu(engine, model):
    verdict = compute_here(engine.program("llama-bench"), model, 1)
    assert verdict.failure is None, verdict.detail
