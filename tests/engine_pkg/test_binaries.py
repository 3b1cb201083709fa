"""Finding the programs and asking them who they are."""

import stat
from pathlib import Path

import pytest

from rpc_wrapper.engine import binaries
from rpc_wrapper.engine.binaries import engine_version, find_engine, rpc_protocol, worker_device_list
from rpc_wrapper.errors import EngineError

SERVER = "echo 'version: 0.5.0-dev (build 1, commit abc)'; echo 'built with GNU'"
WORKER = """echo 'Starting RPC server v7.0.0'
echo '  endpoint       : 127.0.0.1:1'
echo '  local cache    : n/a'
echo 'Devices:'
echo '  CUDA0: A card (1000 MiB, 900 MiB free)'
echo '  CPU: A processor (24105 MiB, 24105 MiB free)'
echo '  transport      : TCP'"""


def program(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def no_wheel(monkeypatch):
    monkeypatch.setattr(binaries, "_wheel_folder", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize("worker", ["ggml-rpc-server", "rpc-server"])
def test_a_folder_is_searched_under_both_names(tmp_path, worker):
    program(tmp_path, "llama-server", SERVER)
    program(tmp_path, worker, WORKER)
    engine = find_engine(tmp_path)
    assert engine.server == tmp_path / "llama-server"
    assert engine.worker == tmp_path / worker
    assert (engine.version, engine.protocol) == ("0.5.0-dev (build 1, commit abc)", "7.0.0")


def test_a_given_folder_is_the_only_one_searched(tmp_path):
    with pytest.raises(EngineError, match=r"llama-server is not in APP_ENGINE_DIR=.*: correct it"):
        find_engine(tmp_path)


@pytest.mark.usefixtures("no_wheel")
def test_the_path_is_the_last_resort(tmp_path, monkeypatch):
    program(tmp_path, "llama-server", SERVER)
    program(tmp_path, "rpc-server", WORKER)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_engine().worker == tmp_path / "rpc-server"


@pytest.mark.usefixtures("no_wheel")
def test_nothing_anywhere_says_how_to_mend_it():
    with pytest.raises(EngineError, match="run scripts/setup to build it, or set APP_ENGINE_DIR"):
        find_engine()


def test_a_file_that_cannot_be_run_does_not_count(tmp_path):
    (tmp_path / "llama-server").write_text("text")
    with pytest.raises(EngineError):
        find_engine(tmp_path)


def test_a_program_of_the_same_build_is_found_beside_the_server(tmp_path):
    program(tmp_path, "llama-server", SERVER)
    program(tmp_path, "rpc-server", WORKER)
    bench = program(tmp_path, "llama-bench", "exit 0")
    assert find_engine(tmp_path).program("llama-bench") == bench
    with pytest.raises(EngineError, match="llama-cli is not beside"):
        find_engine(tmp_path).program("llama-cli")


def test_a_worker_is_asked_with_a_port_that_is_taken(tmp_path):
    worker = program(tmp_path, "rpc-server", f'echo "$@" > {tmp_path}/argv\n{WORKER}')
    assert rpc_protocol(worker) == "7.0.0"
    assert list(worker_device_list(worker)) == ["CUDA0", "CPU"]
    host, address, port, number = (tmp_path / "argv").read_text().split()
    assert (host, address, port) == ("--host", "127.0.0.1", "--port")
    assert 0 < int(number) < 65536


def test_a_worker_that_says_nothing_has_no_known_protocol(tmp_path):
    assert rpc_protocol(program(tmp_path, "rpc-server", "exit 0")) is None


def test_another_program_is_no_llama_server(tmp_path):
    with pytest.raises(EngineError, match="it is no llama-server"):
        engine_version(program(tmp_path, "llama-server", "echo hello"))


def test_a_new_build_in_the_same_place_is_asked_again(tmp_path):
    server = program(tmp_path, "llama-server", SERVER)
    assert engine_version(server).startswith("0.5.0")
    program(tmp_path, "llama-server", "echo 'version: 9'")
    assert engine_version(server) == "9"
