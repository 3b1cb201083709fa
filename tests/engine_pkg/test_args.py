"""argv and environment of the children."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.engine.args import (
    ServerOptions,
    WorkerOptions,
    check_environ,
    check_extra,
    server_argv,
    server_environ,
    with_memory_flags,
    worker_argv,
    worker_environ,
)
from rpc_wrapper.engine.memory_flags import MemoryFlags
from rpc_wrapper.errors import ConfigError, EngineError

SERVER, WORKER = Path("/e/llama-server"), Path("/e/ggml-rpc-server")
MODEL = Path("/models/my model.gguf")
SERVER_FLAGS = frozenset(
    {
        *("--host", "--port", "--model", "--rpc", "--device", "--tensor-split", "-ngl", "--fit", "--verbosity"),
        *("--ctx-size", "--parallel", "--batch-size", "--ubatch-size", "--cache-type-k", "--cache-type-v"),
        *("--flash-attn", "--kv-unified", "--no-kv-unified", "--cache-ram", "--threads", "--threads-batch"),
        *("--threads-http", "--embeddings", "--pooling", "--chat-template", "--alias", "--repeat-penalty"),
        *("--metrics", "--slots", "--no-ui", "--offline"),
    }
)
WORKER_FLAGS = frozenset({"--host", "--port", "--threads", "--device", "--cache"})
PLACEMENT = ("--device", "RPC0,RPC1", "--tensor-split", "5,4", "-ngl", "9")


def value(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def options(**changes: object) -> ServerOptions:
    return ServerOptions(MODEL, port=8081, **changes)  # type: ignore[arg-type]


def test_the_server_is_told_everything_explicitly():
    argv = server_argv(SERVER, options(endpoints=("10.0.0.1:1", "10.0.0.2:2"), placement=PLACEMENT), SERVER_FLAGS)
    assert argv[0] == "/e/llama-server"
    assert value(argv, "--model") == "/models/my model.gguf"
    assert (value(argv, "--host"), value(argv, "--port")) == ("127.0.0.1", "8081")
    assert value(argv, "--rpc") == "10.0.0.1:1,10.0.0.2:2"
    assert (value(argv, "--fit"), value(argv, "--verbosity"), value(argv, "--cache-ram")) == ("off", "4", "0")
    assert value(argv, "--pooling") == "mean"
    assert {"--metrics", "--slots", "--no-ui", "--offline", "--embeddings"} <= set(argv)


def test_rpc_comes_before_the_devices_it_creates():
    argv = server_argv(SERVER, options(endpoints=("a:1",), placement=PLACEMENT), SERVER_FLAGS)
    assert argv.index("--rpc") < argv.index("--device")


def test_the_context_is_that_of_all_slots():
    argv = server_argv(SERVER, options(ctx_size=1000, n_parallel=3), SERVER_FLAGS)
    assert (value(argv, "--ctx-size"), value(argv, "--parallel")) == ("3000", "3")


def test_extra_arguments_come_last_and_whole():
    argv = server_argv(SERVER, options(extra=("--grammar", "a b")), SERVER_FLAGS)
    assert argv[-2:] == ["--grammar", "a b"]


def test_what_is_left_alone_is_not_passed():
    argv = server_argv(SERVER, options(embeddings=False), SERVER_FLAGS)
    assert not {"--threads", "--batch-size", "--chat-template", "--embeddings", "--pooling", "--rpc"} & set(argv)


@pytest.mark.parametrize("gone", ["--metrics", "--no-ui", "--offline", "--cache-ram", "--fit"])
def test_a_comfort_that_was_removed_is_left_out(gone):
    assert gone not in server_argv(SERVER, options(), SERVER_FLAGS - {gone})


@pytest.mark.parametrize("gone", ["--rpc", "--port", "--ctx-size", "--verbosity", "--tensor-split"])
def test_a_need_that_was_removed_is_an_error(gone):
    with pytest.raises(EngineError, match=f"does not accept {gone}.*scripts/setup"):
        server_argv(SERVER, options(endpoints=("a:1",), placement=PLACEMENT), SERVER_FLAGS - {gone})


def test_an_older_name_is_used_when_the_newer_is_unknown():
    argv = server_argv(SERVER, options(), SERVER_FLAGS - {"--no-ui", "--ctx-size"} | {"--no-webui", "-c"})
    assert "--no-webui" in argv
    assert value(argv, "-c") == "16384"


@given(accepted=st.frozensets(st.sampled_from(sorted(SERVER_FLAGS))))
def test_no_flag_is_passed_that_the_program_does_not_accept(accepted):
    try:
        argv = server_argv(SERVER, options(endpoints=("a:1",), placement=PLACEMENT), accepted)
    except EngineError:
        return
    assert {word for word in argv[1:] if word.startswith("-")} <= accepted


def test_a_worker_is_bound_to_an_address_and_a_port():
    assert worker_argv(WORKER, WorkerOptions(50052), WORKER_FLAGS) == [
        *("/e/ggml-rpc-server", "--host", "127.0.0.1", "--port", "50052")
    ]
    full = WorkerOptions(1, "10.0.0.1", threads=2, devices="CUDA0,CPU", cache=True, extra=("-x",))
    assert worker_argv(WORKER, full, WORKER_FLAGS)[5:] == ["--threads", "2", "--device", "CUDA0,CPU", "--cache", "-x"]


def test_the_key_is_in_the_environment_and_never_in_the_argv():
    environ = server_environ({"PATH": "/bin"}, "sk-secret")
    assert environ == {"PATH": "/bin", "LLAMA_API_KEY": "sk-secret", "GGML_NO_BACKTRACE": "1"}
    assert not any("sk-secret" in word for word in server_argv(SERVER, options(), SERVER_FLAGS))


def test_our_own_secrets_do_not_reach_a_child():
    ours = {"APP_API_KEYS": "a", "APP_AGENT_TOKEN": "b", "LLAMA_API_KEY": "c", "LLAMA_ARG_THREADS": "3"}
    assert worker_environ(ours) == {"LLAMA_ARG_THREADS": "3", "GGML_NO_BACKTRACE": "1"}
    assert "LLAMA_API_KEY" not in server_environ(ours, None)


@pytest.mark.parametrize(
    ("word", "use"),
    [
        ("--rpc", "APP_RPC_BACKENDS"),
        ("-ngl", "APP_GPU_LAYERS"),
        ("--n_gpu_layers", "APP_GPU_LAYERS"),
        ("--tensor-split", "APP_STRATEGY"),
        ("-m", "APP_MODEL"),
        ("-hf", "APP_MODEL"),
        ("--port", "APP_PORT"),
        ("--host=0.0.0.0", "APP_BIND"),
        ("--api-key", "APP_API_KEYS"),
        ("-fit", "APP_STRATEGY"),
        ("-v", "APP_LOG_LEVEL"),
    ],
)
def test_a_managed_argument_is_refused_with_what_to_use(word, use):
    with pytest.raises(ConfigError) as caught:
        check_extra(["--temp", "0.5", word, "x"])
    assert word in str(caught.value)
    assert use in str(caught.value)


@pytest.mark.parametrize(
    "name", ["LLAMA_ARG_RPC", "LLAMA_ARG_DEVICE", "LLAMA_ARG_HOST", "LLAMA_API_KEY", "LLAMA_ARG_FIT"]
)
def test_a_managed_variable_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is managed by rpc-wrapper: unset it and use"):
        check_environ({name: "x"})


def test_everything_else_passes():
    check_extra(["--ctx-size", "100", "--jinja", "--temp", "0.1"])
    check_environ({"LLAMA_ARG_CTX_SIZE": "100", "LLAMA_ARG_RPC": "", "PATH": "/bin"})


def test_the_users_own_memory_flags_change_the_options():
    changed = with_memory_flags(
        options(), MemoryFlags(ctx_size=8192, n_parallel=2, cache_type_k="q8_0", kv_unified=True)
    )
    assert (changed.ctx_size, changed.n_parallel, changed.cache_type_k, changed.kv_unified) == (4096, 2, "q8_0", True)
    assert with_memory_flags(options(), MemoryFlags()) == options()
    assert with_memory_flags(options(), MemoryFlags(ctx_size=0, n_parallel=-1)) == options()
