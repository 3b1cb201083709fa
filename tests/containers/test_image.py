"""What is in the image, and what one container of it does."""

import json
import socket
import struct

import httpx
import pytest

from rpc_wrapper.devices import MIB
from rpc_wrapper.rpc.commands import REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest, HelloRequest
from tests.containers.docker import Container, docker, network, run_to_end, running, wait_for

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2700)]

HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true")
MAX_MB_OVER_BASE = 300
BUILD_TOOLS = ("cc", "gcc", "g++", "clang", "cmake", "ninja", "make", "ld", "git", "pip", "pip3", "uv")


def inside(image: str, command: str) -> str:
    return docker("run", "--rm", "--user=0", "--entrypoint=sh", image, "-c", command)


def test_it_says_what_it_is_and_how_it_is_stopped(image: str) -> None:
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["rpc-wrapper", "run", "--"]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert config["Labels"]["org.opencontainers.image.revision"]


def test_it_is_small(image: str) -> None:
    sizes = [int(inside(one, "du -xsm / 2>/dev/null").split()[0]) for one in (image, "debian:trixie-slim")]
    assert sizes[0] - sizes[1] <= MAX_MB_OVER_BASE


def test_it_holds_no_build_tool_no_cache_and_no_secret(image: str) -> None:
    assert inside(image, "; ".join(f"command -v {tool} || true" for tool in BUILD_TOOLS)) == ""
    assert (
        inside(
            image, "find /var/cache /var/lib/apt/lists /root /app/cache -type f -not -name '.*rc' -not -name .profile"
        )
        == ""
    )
    leftovers = (
        r"find / -xdev \( -name '*.a' -o -name '*.whl' -o -name '*.o' -o -name .git -o -name .netrc -o -name 'id_*' \)"
    )
    assert inside(image, leftovers) == ""
    assert inside(image, r"grep -rlE 'BEGIN [A-Z ]*PRIVATE KEY' /app /opt/llama.cpp /etc /root || true") == ""
    assert not [line for line in inside(image, "env").splitlines() if "TOKEN" in line or "KEY" in line]


def test_it_computes_on_any_processor_but_never_with_amx(image: str) -> None:
    libraries = inside(image, "ls /opt/llama.cpp/lib")
    assert "libggml-cpu-x64.so" in libraries
    assert "libggml-cpu-haswell.so" in libraries
    assert "sapphirerapids" not in libraries


def test_a_backend_is_the_default_and_becomes_healthy_with_a_read_only_root(image: str) -> None:
    with running(image, options=HARDENED) as container:
        container.wait_healthy()
        assert container.exec("id", "-u") == "10001"
        assert "ggml-rpc-server" in container.logs()
        assert container.stop() < 10
        assert container.state()["ExitCode"] == 0


def test_a_server_is_unhealthy_until_a_token_came_out_and_says_who_is_missing(image: str) -> None:
    impatient = ("--health-start-period=1ms", "--health-interval=1s", "--health-retries=1")
    served = {"APP_MODE": "server", "APP_MODEL": "/app/models/demo.gguf", "APP_RPC_BACKENDS": "lender:50052"}
    with (
        network() as name,
        running(image, options=[*impatient, f"--network={name}"], APP_WAIT_S="600", **served) as one,
    ):
        wait_for("a reason", lambda: "says 503" in one.last_verdict())
        assert one.health() == "unhealthy"
        ready = f"http://{one.address}:8080/readyz"
        wait_for("who is missing", lambda: httpx.get(ready).json()["missing"] == ["lender:50052"])
        with running(image, options=[f"--network={name}", "--network-alias=lender"]):
            wait_for("healthy", lambda: one.health() == "healthy")


def test_it_writes_nothing_outside_tmp_and_its_cache(image: str) -> None:
    with running(image) as container:
        container.wait_healthy()
        changed = {line.split()[1] for line in docker("diff", container.ident).splitlines()}
        assert not {path for path in changed if not path.startswith(("/tmp", "/app/cache"))}


@pytest.mark.parametrize("mode", ["worker", "Server "])
def test_an_unknown_mode_ends_at_once_and_names_the_known_ones(image: str, mode: str) -> None:
    code, log = run_to_end(image, APP_MODE=mode.strip() + "x")
    assert code == 2
    assert mode.strip() + "x" in log
    assert all(name in log for name in ("server", "backend", "none"))
    assert "Traceback" not in log


def test_the_eight_original_variables_keep_their_names(image: str) -> None:
    given = {
        "APP_MODE": "server",
        "APP_BIND": "127.0.0.1",
        "APP_PORT": "9090",
        "APP_MEM": "512",
        "APP_RPC_BACKENDS": "h1:50052,h2:50053",
        "APP_MODEL": "/app/models/my model.gguf",
        "APP_REPEAT_PENALTY": "1.1",
        "APP_GPU_LAYERS": "7",
    }
    with running(image, APP_MODE="none") as container:
        flags = [f"--env={name}={value}" for name, value in given.items()]
        shown = docker("exec", *flags, container.ident, "rpc-wrapper", "config")
    for name, value in given.items():
        line = next(line for line in shown.splitlines() if name in line.split())
        assert value in line


def test_a_server_names_every_backend_that_does_not_answer(image: str) -> None:
    code, log = run_to_end(
        image,
        APP_MODE="server",
        APP_MODEL="/app/models/demo.gguf",
        APP_RPC_BACKENDS="h1:50052,h2:50053",
        APP_WAIT_S="1",
    )
    assert code != 0
    assert "h1:50052" in log
    assert "h2:50053" in log
    assert "Traceback" not in log


def test_the_users_list_is_used_and_the_misspelt_one_too(image: str) -> None:
    """The original image tested APP_RPC, so that APP_RPC_BACKENDS was always overwritten."""
    for name in ("APP_RPC_BACKENDS", "APP_RPC"):
        environ = {"APP_MODE": "server", "APP_MODEL": "/app/models/demo.gguf", name: "mine:50052", "APP_WAIT_S": "1"}
        code, log = run_to_end(image, **environ)
        assert code != 0
        assert "mine:50052" in log
        assert "backend-cuda" not in log


def test_arguments_after_the_image_reach_the_engine(image: str) -> None:
    with running(image, "--threads", "1") as container:
        container.wait_healthy()
        argv = next(line for line in container.logs().splitlines() if "ggml-rpc-server" in line)
        assert argv.endswith(" --threads 1")


def test_threads_follow_the_limit_on_processors(image: str) -> None:
    with running(image, options=["--cpus=1"]) as container:
        container.wait_healthy()
        assert "--threads 1" in container.logs()


@pytest.fixture(scope="module")
def idle(image: str):
    with running(image, APP_MODE="none") as container:
        container.wait_healthy()
        yield container


def test_mode_none_lends_the_engines_programs_to_exec(idle: Container) -> None:
    answer = idle.exec(
        *("llama-cli", "--model", "/app/models/demo.gguf", "--prompt", "Once upon a time", "--predict", "16"),
        *("--single-turn", "--no-display-prompt", "--simple-io"),
    )
    assert len(answer.split()) > 5


def test_mode_none_can_run_llama_embedding(idle: Container) -> None:
    """All of it, every time: its logger, never flushed at exit, used to lose the end (docker/build-engine)."""
    for _ in range(5):
        said = idle.exec(
            *("llama-embedding", "--model", "/app/models/demo.gguf", "--prompt", "Once upon a time"),
            *("--pooling", "mean", "--embd-output-format", "json", "--log-verbosity", "0"),
        )
        (embedding,) = json.loads(said[said.index("{") :])["data"]
        assert len(embedding["embedding"]) == 192


def test_mode_none_becomes_the_program_that_follows_the_image(image: str) -> None:
    command = ("llama-cli", "--model", "/app/models/demo.gguf", "--prompt", "Once upon a time", "--predict", "16")
    code, said = run_to_end(image, *command, "--single-turn", "--simple-io", APP_MODE="none")
    assert code == 0
    assert "Once upon a time" in said
    assert "Generation:" in said  # its last words: tokens per second


def test_mode_nones_programs_use_the_same_backends(image: str) -> None:
    with network() as name, running(image, options=[f"--network={name}", "--network-alias=lender"]) as backend:
        backend.wait_healthy()
        options = (f"--network={name}", "--env=APP_RPC_BACKENDS=lender:50052")
        with running(image, options=options, APP_MODE="none") as tools:
            command = 'llama-cli --rpc "$APP_RPC_BACKENDS" --n-gpu-layers 99 --model /app/models/demo.gguf'
            said = tools.exec("sh", "-c", f"{command} --prompt 'Once upon a time' --predict 16 --single-turn --verbose")
    assert "Generation:" in said
    assert "RPC0[" in said  # in the engine's words, whose memory holds the blocks


def test_mode_none_names_a_program_that_does_not_exist(image: str) -> None:
    code, said = run_to_end(image, "llama-nothing", APP_MODE="none")
    assert code == 2
    assert "llama-nothing cannot be run" in said
    assert "Traceback" not in said


def test_mode_none_ends_soon(image: str) -> None:
    with running(image, APP_MODE="none") as container:
        wait_for("idle", lambda: "APP_MODE is none" in container.logs())
        assert container.stop() < 5
        assert container.state()["ExitCode"] == 0


class RawClient:
    """Uses a backend's memory as llama-server would."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, 50052), timeout=60)
        self.send(Command.HELLO, HelloRequest().pack())
        self.receive()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, command: Command, payload: bytes) -> None:
        self._socket.sendall(REQUEST_HEADER.pack(command, len(payload)) + payload)

    def receive(self) -> bytes:
        """Return a reply's payload; nothing when the backend closed."""
        with self._socket.makefile("rb") as stream:
            header = stream.read(8)
            return stream.read(struct.unpack("<Q", header)[0]) if header else b""

    def fill(self, size_bytes: int) -> bool:
        """Allocate a buffer and write to all of it; tell whether the backend lived."""
        self.send(Command.ALLOC_BUFFER, AllocBufferRequest(0, size_bytes).pack())
        buffer = AllocBufferReply.unpack(self.receive())
        self.send(Command.BUFFER_CLEAR, struct.pack("<QB", buffer.remote_ptr, 1))
        self.send(Command.DEVICE_COUNT, b"")
        return bool(self.receive())


def test_a_memory_limit_below_app_mem_is_told_at_the_start(image: str) -> None:
    with running(image, options=[*HARDENED, "--memory=512m"], APP_MEM="512") as container:
        container.wait_healthy()
        warning = next(line for line in container.logs().splitlines() if "APP_MEM=512" in line)
        for words in ("may use 512 MiB", "at least 768 MiB", "at most 256"):
            assert words in warning
    with running(image, options=[*HARDENED, "--memory=768m"], APP_MEM="512") as container:
        container.wait_healthy()
        assert "APP_MEM=512" not in container.logs()


def test_a_memory_limit_below_app_mem_kills_the_worker_alone_and_is_explained(image: str) -> None:
    with running(image, options=[*HARDENED, "--memory=256m"], APP_MEM="1024") as container:
        container.wait_healthy()
        with RawClient(container.address) as client:
            assert not client.fill(400 * MIB)
        wait_for("a new worker", lambda: container.logs().count("is ready") == 2)
        state = container.state()
        assert state["OOMKilled"]
        assert state["Status"] == "running"
        why = next(line for line in container.logs().splitlines() if "out of memory" in line)
        assert "APP_MEM=1024" in why
        assert "256 MiB" in why  # the limit
        assert "1280 MiB" in why  # what would do


def test_within_the_documented_limit_app_mem_can_be_used_up(image: str) -> None:
    with running(image, options=[*HARDENED, "--memory=768m"], APP_MEM="512") as container:
        container.wait_healthy()
        with RawClient(container.address) as client:
            assert client.fill(512 * MIB)
        assert not container.state()["OOMKilled"]
