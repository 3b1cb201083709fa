"""What llama-bench is asked, and what is read from its answer."""

from pathlib import Path

import pytest

from rpc_wrapper.devices import Device, Endpoint
from rpc_wrapper.engine.benchmark import Stand, bench_argv, token_s
from rpc_wrapper.errors import EngineError

ANSWER = ["[", "  {", '    "avg_ns": 40000000,', '    "samples_ns": [ 48000000, 32000000, 40000000 ],', "  }", "]"]


@pytest.mark.parametrize(
    ("stand", "flags"),
    [
        (
            Stand(Device("RPC3", 1, index=1), Endpoint("10.0.0.1", 50052)),
            ["--rpc", "10.0.0.1:50052", "--device", "RPC1"],
        ),
        (Stand(Device("CUDA0", 1)), ["--device", "CUDA0"]),
        (Stand(Device("CPU", 1)), ["--device", "none", "-ngl", "0"]),
    ],
)
def test_it_computes_on_that_device_alone(stand: Stand, flags: list[str]) -> None:
    argv = bench_argv(Path("llama-bench"), Path("a model.gguf"), stand, 2)
    assert argv[:3] == ("llama-bench", "-m", "a model.gguf")
    first = argv.index(flags[0])
    assert list(argv[first : first + len(flags)]) == flags


def test_the_least_disturbed_run_counts() -> None:
    assert token_s(ANSWER, 0) == pytest.approx(0.032 / 16)


@pytest.mark.parametrize(
    ("lines", "returncode", "words"),
    [
        (["Failed to connect to 1.2.3.4:5", ""], 134, "134 .Failed to connect"),
        ([], 0, "no output"),
        (ANSWER, 1, "with 1"),
    ],
)
def test_no_figure_is_an_error_that_quotes_the_last_line(lines: list[str], returncode: int, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        token_s(lines, returncode)
