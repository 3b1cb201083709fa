"""Bad input ends at once with one sentence that says what is wrong and what to do: no traceback, nothing started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent.parent / "models" / "demo.gguf"
SERVER = {"APP_MODE": "server", "APP_MODEL": str(DEMO), "APP_RPC_BACKENDS": "127.0.0.1:9"}

CASES = [
    ({"APP_MODE": "frontend"}, ["APP_MODE=frontend", "backend, server, none"]),
    ({"APP_PORT": "99999"}, ["APP_PORT=99999", "65535"]),
    ({"APP_MEM": "0"}, ["APP_MEM=0"]),
    ({"APP_MEM": "much"}, ["APP_MEM=much"]),
    ({"APP_MODLE": "x"}, ["APP_MODLE", "did you mean"]),
    (SERVER | {"APP_MODEL": "/no/such.gguf"}, ["/no/such.gguf", "No such file"]),
    (SERVER | {"APP_MODEL": "/"}, ["Is a directory"]),
    (SERVER | {"APP_MODEL": __file__}, ["no GGUF"]),
    (SERVER | {"APP_RPC_BACKENDS": "nocolon"}, ["nocolon", "host:port"]),
    (SERVER | {"APP_RPC_BACKENDS": "a:1,a:1"}, ["twice"]),
    (SERVER | {"APP_RPC_BACKENDS": ",".join(f"h:{port}" for port in range(1, 18))}, ["17", "16"]),
    (SERVER | {"APP_RPC_BACKENDS": "[::1]:50052", "APP_LINK": "direct"}, ["IPv6", "APP_LINK=relay"]),
    (SERVER | {"APP_SPLIT_LAYER": "8"}, ["APP_SPLIT_LAYER=8", "use 1 to 7"]),
    (SERVER | {"LLAMA_ARG_RPC": "x:1"}, ["LLAMA_ARG_RPC", "APP_RPC_BACKENDS"]),
]


@pytest.mark.parametrize(("environ", "words"), CASES, ids=[" ".join(words) for _, words in CASES])
def test_bad_settings(environ: dict[str, str], words: list[str]):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "rpc_wrapper", "run"],
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_a_truncated_model(tmp_path: Path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(DEMO.read_bytes()[:100_000])
    test_bad_settings(SERVER | {"APP_MODEL": str(cut)}, ["truncated", "cut.gguf"])
