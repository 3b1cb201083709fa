"""Finds the llama.cpp programs and asks them who they are."""

import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rpc_wrapper.engine.flags import output_of
from rpc_wrapper.errors import EngineError

SERVER_NAMES = ("llama-server",)
WORKER_NAMES = ("ggml-rpc-server", "rpc-server")  # its name since June 2026, and the one before
VERSION_TIMEOUT_S = 20.0

_VERSION = re.compile(r"^version: (?P<version>.+)$", re.MULTILINE)
_PROTOCOL = re.compile(r"^Starting RPC server v(?P<version>\d+\.\d+\.\d+)$", re.MULTILINE)  # ggml-rpc.cpp
_DEVICE = re.compile(r"^  (?P<name>\w+): (?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Engine:
    """The programs of one llama.cpp build; ``protocol`` is the worker's RPC protocol, None when it would not say."""

    server: Path
    worker: Path
    version: str
    protocol: str | None

    def program(self, name: str) -> Path:
        """Return another program of the same build; raise EngineError when it was not installed."""
        path = self.server.with_name(name)
        if not _is_program(path):
            raise EngineError(f"{name} is not beside {self.server}: run scripts/setup again, or set APP_ENGINE_DIR")
        return path


def find_engine(engine_dir: Path | None = None) -> Engine:
    """Find llama-server and the worker in ``engine_dir``, else in the installed wheel, else on PATH.

    Raises EngineError with what to do when one is missing or does not start. Blocks for about 0.2 s the first time.
    """
    server, worker = _find(SERVER_NAMES, engine_dir), _find(WORKER_NAMES, engine_dir)
    return Engine(server, worker, engine_version(server), rpc_protocol(worker))


def _find(names: tuple[str, ...], engine_dir: Path | None) -> Path:
    for folder in (engine_dir,) if engine_dir is not None else (_wheel_folder(),):
        for name in names:
            if folder is not None and _is_program(folder / name):
                return folder / name
    if engine_dir is not None:
        raise EngineError(f"{' or '.join(names)} is not in APP_ENGINE_DIR={engine_dir}: correct it or leave it unset")
    for name in names:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise EngineError(
        f"{' or '.join(names)} is neither in the installed package nor on PATH: "
        "run scripts/setup to build it, or set APP_ENGINE_DIR to the folder that holds it"
    )


def _wheel_folder() -> Path | None:
    """Return the wheel's folder of programs; the module is found, not imported, as that would load the engine."""
    spec = importlib.util.find_spec("llama_cpp")
    return Path(spec.origin).parent / "bin" if spec is not None and spec.origin is not None else None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def engine_version(server: Path) -> str:
    """Return what ``llama-server --version`` says behind ``version:``."""
    return _remembered(_engine_version, server)


def _engine_version(server: Path) -> str:
    text = output_of([str(server), "--version"], VERSION_TIMEOUT_S)
    match = _VERSION.search(text)
    if match is None:
        raise EngineError(f"{server} --version says {text.strip()[:80]!r}: it is no llama-server, set APP_ENGINE_DIR")
    return match["version"]


def rpc_protocol(worker: Path) -> str | None:
    """Return the worker's RPC protocol version (``7.0.0``), or None when this worker does not print one."""
    match = _PROTOCOL.search(_remembered(_greeting, worker))
    return match["version"] if match else None


def worker_device_list(worker: Path) -> dict[str, str]:
    """Return the devices this machine's worker would expose: name to description with its memory."""
    return {match["name"]: match["text"] for match in _DEVICE.finditer(_remembered(_greeting, worker))}


def _greeting(worker: Path) -> str:
    """Return what a worker prints before it listens.

    It has no ``--version``. Offered a port that is taken it greets, fails to listen and ends with 0 by itself
    (ggml_backend_rpc_start_server), so nothing ever listens and nothing has to be stopped.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        return output_of([str(worker), "--host", "127.0.0.1", "--port", str(port)], VERSION_TIMEOUT_S)


def _remembered(ask: Callable[[Path], str], program: Path) -> str:
    try:
        return _answer(ask, program, program.stat().st_mtime_ns)
    except OSError as error:
        raise EngineError(f"{program} cannot be read ({error.strerror}): run scripts/setup again") from error


@lru_cache(maxsize=16)
def _answer(ask: Callable[[Path], str], program: Path, modified_ns: int) -> str:
    return ask(program)
