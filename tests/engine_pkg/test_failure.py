"""Why a child died. The lines were printed by the pinned engine."""

import pytest

from rpc_wrapper.engine.failure import Failure, classify


@pytest.mark.parametrize(
    ("lines", "returncode", "failure"),
    [
        (
            [
                "E alloc_tensor_range: failed to allocate RPC0[127.0.0.1:51961] buffer of size 4096262144",
                "E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
                "E cmn  common_init_: failed to create context with model 'tiny.gguf'",
            ],
            1,
            Failure.OUT_OF_MEMORY,
        ),
        ([], -9, Failure.KILLED),
        ([], 137, Failure.KILLED),
        (["cudaMalloc failed: out of memory"], -9, Failure.OUT_OF_MEMORY),
        (["ggml-rpc.cpp:547: Failed to connect to 127.0.0.1:51999"], -6, Failure.CANNOT_CONNECT),
        (["Invalid host address: localhost", "Failed to create server socket"], 0, Failure.CANNOT_CONNECT),
        (["ggml-rpc.cpp:550: RPC handshake failed for 127.0.0.1:51903"], -6, Failure.VERSION_MISMATCH),
        (["Remote RPC server crashed or returned malformed response"], -6, Failure.BACKEND_LOST),
        (
            ["E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'"],
            1,
            Failure.BAD_MODEL,
        ),
        (
            ["error loading model: tensor 'output.weight' data is not within the file bounds, model is corrupted"],
            1,
            Failure.BAD_MODEL,
        ),
        (["E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 51901"], 1, Failure.PORT_TAKEN),
        (["Failed to create server socket"], 0, Failure.PORT_TAKEN),
        (["error: invalid argument: --nonsense"], 1, Failure.BAD_ARGUMENT),
        (['error while handling argument "--device": invalid device: RPC0'], 1, Failure.BAD_ARGUMENT),
        (["E llama_init_from_model: quantized V cache requires flash_attn to be enabled"], 1, Failure.UNKNOWN),
        (["failed to create context with model 'tiny.gguf'"], 1, Failure.BAD_ARGUMENT),
        (["some words"], -4, Failure.ILLEGAL_INSTRUCTION),
        ([], 132, Failure.ILLEGAL_INSTRUCTION),
        ([], 0, Failure.UNKNOWN),
        ([], -11, Failure.UNKNOWN),
        ([], None, Failure.UNKNOWN),
    ],
)
def test_a_death_has_a_cause(lines, returncode, failure):
    assert classify(lines, returncode) is failure


@pytest.mark.parametrize(("returncode", "failure"), [(-9, Failure.OUT_OF_MEMORY), (-6, Failure.UNKNOWN)])
def test_memory_is_blamed_for_a_kill_that_the_kernel_owns_to(returncode, failure):
    assert classify([], returncode, oom_killed=True) is failure


def test_every_failure_has_advice_and_says_whether_to_try_again():
    assert all(failure.advice.endswith(".") for failure in Failure)
    assert Failure.BAD_MODEL.is_permanent
    assert not Failure.CANNOT_CONNECT.is_permanent
