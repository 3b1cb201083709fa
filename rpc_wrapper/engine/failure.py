"""Why an engine child died, told from its last lines and its return code, and what to do about it. Pure."""

from collections.abc import Sequence
from enum import StrEnum


class Failure(StrEnum):
    """Why a child died."""

    OUT_OF_MEMORY = "out_of_memory"
    CANNOT_CONNECT = "cannot_connect"
    VERSION_MISMATCH = "version_mismatch"
    BAD_MODEL = "bad_model"
    BAD_ARGUMENT = "bad_argument"
    ILLEGAL_INSTRUCTION = "illegal_instruction"
    PORT_TAKEN = "port_taken"
    BACKEND_LOST = "backend_lost"
    KILLED = "killed_from_outside"
    UNKNOWN = "unknown"

    @property
    def advice(self) -> str:
        """Return what to do about it, one sentence."""
        return _ADVICE[self]

    @property
    def is_permanent(self) -> bool:
        """Tell whether starting the same thing again can only fail again."""
        return self in _PERMANENT


_PERMANENT = {Failure.BAD_MODEL, Failure.BAD_ARGUMENT, Failure.ILLEGAL_INSTRUCTION, Failure.VERSION_MISMATCH}
_ADVICE = {
    Failure.OUT_OF_MEMORY: "Lower APP_CTX_SIZE or APP_PARALLEL, quantise the KV cache with APP_CACHE_TYPE_K and "
    "APP_CACHE_TYPE_V, or add a backend.",
    Failure.CANNOT_CONNECT: "Start the backend, and check its address and port with `rpc-wrapper probe`.",
    Failure.VERSION_MISMATCH: "Run the same version of rpc-wrapper on the server and on every backend.",
    Failure.BAD_MODEL: "Check APP_MODEL with `rpc-wrapper inspect`, and fetch the file again if it is damaged.",
    Failure.BAD_ARGUMENT: "Correct the argument that the engine names in its last lines.",
    Failure.ILLEGAL_INSTRUCTION: "The engine was built for another CPU: build it with GGML_NATIVE=OFF (scripts/setup "
    "does), or pass `-- --no-repack` if the CPU advertises AMX without allowing it.",
    Failure.PORT_TAKEN: "Free the port or choose another; `rpc-wrapper doctor` says who has it.",
    Failure.BACKEND_LOST: "Look at the log of the backend that vanished; it is restarted with the next plan.",
    Failure.KILLED: "The kernel reports no lack of memory: look for who or what sent the signal.",
    Failure.UNKNOWN: "Read its last lines, and run `rpc-wrapper doctor`.",
}

# In order: the first text that occurs names the cause. A refused allocation is followed by general complaints.
_SIGNS: tuple[tuple[Failure, tuple[str, ...]], ...] = (
    (Failure.VERSION_MISMATCH, ("RPC server version mismatch", "RPC handshake failed")),
    (Failure.CANNOT_CONNECT, ("Failed to connect to ", "Invalid host address")),
    (Failure.BACKEND_LOST, ("Remote RPC server crashed or returned malformed response",)),
    (Failure.PORT_TAKEN, ("couldn't bind HTTP server socket", "Failed to create server socket")),
    (
        Failure.OUT_OF_MEMORY,
        (
            "failed to allocate",
            "unable to allocate",
            "cudaMalloc failed",
            "out of memory",
            "std::bad_alloc",
            "Cannot allocate memory",
        ),
    ),
    (
        Failure.BAD_ARGUMENT,
        (
            "error while handling argument",
            "error: invalid argument",
            "error: unknown argument",
            "error: unknown device",
            "failed to create context with model",
            "Invalid parameters",
        ),
    ),
    (
        Failure.BAD_MODEL,
        ("error loading model", "invalid magic characters", "failed to open GGUF file", "failed to load model"),
    ),
)
_SIGKILL, _SIGILL = 9, 4


def classify(lines: Sequence[str], returncode: int | None, *, oom_killed: bool = False) -> Failure:
    """Say why a child died from its last lines and its return code (negative for a signal, as subprocess has it).

    SIGILL is an instruction this CPU lacks or forbids. SIGKILL is the kernel's, short of memory, only where the kernel
    says so (``oom_killed``, see :mod:`rpc_wrapper.engine.oom`); anybody can send it.
    """
    if returncode in (-_SIGILL, 128 + _SIGILL):
        return Failure.ILLEGAL_INSTRUCTION
    was_killed = returncode in (-_SIGKILL, 128 + _SIGKILL)
    if was_killed and oom_killed:
        return Failure.OUT_OF_MEMORY
    for failure, texts in _SIGNS:
        if any(text in line for line in lines for text in texts):
            return failure
    return Failure.KILLED if was_killed else Failure.UNKNOWN
