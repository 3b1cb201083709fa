"""The argv and the environment of an engine child, from typed options.

Pure. Lists, never one string, so values with spaces survive. Only flags that the program accepts are passed: one we
can do without is left out when a newer engine has dropped it, one we need is an EngineError.

Decisions, and why:

- ``-lv 4`` prints the size of every buffer on every device, from which the placement follows (see ``loadlog``).
  ``-lv 5`` names the device of every slot too, but then prints some 17 lines per token and the *text of prompts*
  (``launch_slot_`` dumps the slot's last request): it is for experiments, never for serving.
- ``--cache-ram 0``: the prompt cache would copy idle slots' KV from the backends into up to 8 GiB of this host's
  memory, which no plan has counted, over links that have better things to carry.
- ``--offline``: a start never reaches for the network. ``--no-ui``: the dashboard is ours.
- The context is given for all slots together (``-c``), because llama-server divides it.
- The key travels in the environment, as any user of the machine can read an argv.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rpc_wrapper.engine.memory_flags import MemoryFlags, canonical, read_memory_flags
from rpc_wrapper.errors import ConfigError, EngineError

__all__ = [
    "ServerOptions",
    "WorkerOptions",
    "check_environ",
    "check_extra",
    "read_memory_flags",
    "server_argv",
    "server_environ",
    "with_memory_flags",
    "worker_argv",
    "worker_environ",
]

PLACEMENT_VERBOSITY = 4


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to start llama-server.

    ``endpoints`` are ``host:port`` in ``--rpc`` order, IPv4 or names with one address. ``placement`` is
    ``Plan.argv()``. ``ctx_size`` is in tokens per slot. None leaves the engine's own default. ``extra`` are the
    user's arguments, which come last and so win.
    """

    model: Path
    port: int = 0
    host: str = "127.0.0.1"
    endpoints: tuple[str, ...] = ()
    placement: tuple[str, ...] = ()
    ctx_size: int = 4096
    n_parallel: int = 4
    n_batch: int | None = None
    n_ubatch: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attn: str = "auto"
    kv_unified: bool = False
    embeddings: bool = True
    chat_template: str | None = None
    repeat_penalty: float = 1.0
    threads: int | None = None
    threads_batch: int | None = None
    threads_http: int | None = None
    cache_ram_mib: int = 0
    alias: str | None = None
    verbosity: int = PLACEMENT_VERBOSITY
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How to start a worker; ``host`` is an IPv4 address, as the worker takes no name."""

    port: int
    host: str = "127.0.0.1"
    threads: int | None = None
    devices: str | None = None
    cache: bool = False
    extra: tuple[str, ...] = ()


class _Argv:
    """Collects flags, each under the first of its names that the program accepts."""

    def __init__(self, program: Path, accepted: frozenset[str]) -> None:
        self.words = [str(program)]
        self._accepted = accepted

    def need(self, *names: str, value: object) -> None:
        """Add a flag that we cannot do without."""
        if not self._add(names, value):
            raise EngineError(
                f"{self.words[0]} does not accept {names[0]}: this engine is too old or too new, "
                "run scripts/setup to get the one this package was tested with"
            )

    def want(self, *names: str, value: object = None, when: bool = True) -> None:
        """Add a flag if ``when`` and if the program still has it."""
        if when:
            self._add(names, value)

    def maybe(self, *names: str, value: object) -> None:
        """Add a flag that the user asked for; None is not asked for."""
        if value is not None:
            self.need(*names, value=value)

    def _add(self, names: tuple[str, ...], value: object) -> bool:
        name = next((name for name in names if name in self._accepted), None)
        if name is not None:
            self.words += [name] if value is None else [name, str(value)]
        return name is not None


def server_argv(program: Path, options: ServerOptions, accepted: frozenset[str]) -> list[str]:
    """Write llama-server's argv; ``accepted`` is what ``flags.accepted_flags(program)`` says."""
    argv = _Argv(program, accepted)
    argv.need("--host", value=options.host)
    argv.need("--port", value=options.port)
    argv.need("--model", "-m", value=options.model)
    _add_placement(argv, options, accepted)
    _add_memory(argv, options)
    _add_service(argv, options)
    argv.words += options.extra
    return argv.words


def _add_placement(argv: _Argv, options: ServerOptions, accepted: frozenset[str]) -> None:
    if options.endpoints:  # before --device, which knows only the devices that exist when it is read
        argv.need("--rpc", value=",".join(options.endpoints))
    unknown = [word for word in options.placement if _is_flag(word) and word not in accepted]
    if unknown:
        raise EngineError(f"{argv.words[0]} does not accept {unknown[0]}, which the plan needs: run scripts/setup")
    argv.words += options.placement
    argv.want("--fit", "-fit", value="off")  # the plan decides, not llama.cpp's guess at free memory
    argv.need("--verbosity", "-lv", value=options.verbosity)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.lstrip("-")[:1].isdigit()


def _add_memory(argv: _Argv, options: ServerOptions) -> None:
    argv.need("--ctx-size", "-c", value=options.ctx_size * options.n_parallel)
    argv.need("--parallel", "-np", value=options.n_parallel)
    argv.maybe("--batch-size", "-b", value=options.n_batch)
    argv.maybe("--ubatch-size", "-ub", value=options.n_ubatch)
    argv.need("--cache-type-k", "-ctk", value=options.cache_type_k)
    argv.need("--cache-type-v", "-ctv", value=options.cache_type_v)
    argv.need("--flash-attn", "-fa", value=options.flash_attn)
    argv.want("--kv-unified", "-kvu", when=options.kv_unified)
    argv.want("--no-kv-unified", "-no-kvu", when=not options.kv_unified)
    argv.want("--cache-ram", "-cram", value=options.cache_ram_mib)


def _add_service(argv: _Argv, options: ServerOptions) -> None:
    argv.maybe("--threads", "-t", value=options.threads)
    argv.maybe("--threads-batch", "-tb", value=options.threads_batch)
    argv.maybe("--threads-http", value=options.threads_http)
    if options.embeddings:
        argv.need("--embeddings", "--embedding", value=None)
        argv.need("--pooling", value="mean")  # without one, /v1/embeddings is a 400 on a causal model
    argv.maybe("--chat-template", value=options.chat_template)
    argv.maybe("--alias", "-a", value=options.alias)
    argv.need("--repeat-penalty", value=options.repeat_penalty)
    argv.want("--metrics")
    argv.want("--slots")
    argv.want("--no-ui", "--no-webui")
    argv.want("--offline")


def worker_argv(program: Path, options: WorkerOptions, accepted: frozenset[str]) -> list[str]:
    """Write a worker's argv; an argument it does not know would make it print its usage and end with 0."""
    argv = _Argv(program, accepted)
    argv.need("--host", "-H", value=options.host)
    argv.need("--port", "-p", value=options.port)
    argv.maybe("--threads", "-t", value=options.threads)
    argv.maybe("--device", "-d", value=options.devices)
    if options.cache:
        argv.need("--cache", "-c", value=None)
    argv.words += options.extra
    return argv.words


def server_environ(environ: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """Return llama-server's environment: ours without our own settings, plus its key, and no backtrace.

    With a debugger on the machine an abort would spend seconds on a backtrace (ggml_abort, ggml.c).
    """
    child = worker_environ(environ)
    if api_key is not None:
        child["LLAMA_API_KEY"] = api_key
    return child


def worker_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: ours without our own settings (keys and tokens among them), and no backtrace."""
    child = {name: value for name, value in environ.items() if not name.startswith("APP_") and name != "LLAMA_API_KEY"}
    return child | {"GGML_NO_BACKTRACE": "1"}


def with_memory_flags(options: ServerOptions, flags: MemoryFlags) -> ServerOptions:
    """Return ``options`` with what the user's own engine flags say, so that argv, plan and engine agree."""
    n_parallel = flags.n_parallel if flags.n_parallel and flags.n_parallel > 0 else options.n_parallel
    ctx_size = flags.ctx_size // n_parallel if flags.ctx_size else options.ctx_size
    given = {
        name: value
        for name in ("n_batch", "n_ubatch", "cache_type_k", "cache_type_v", "flash_attn", "kv_unified", "embeddings")
        if (value := getattr(flags, name)) is not None
    }
    return replace(options, n_parallel=n_parallel, ctx_size=ctx_size, **given)


_BACKENDS, _MODEL, _KEYS = "APP_RPC_BACKENDS", "APP_MODEL", "APP_API_KEYS"
_PLAN = "APP_STRATEGY, APP_BOUNDARIES or APP_SPLIT_LAYER"
_FIXED = "nothing: llama-server listens on loopback behind the gateway, which has APP_BIND and APP_PORT"
_LOG = "APP_LOG_LEVEL and APP_LOG_FORMAT: the supervisor reads the engine's own log"
_MANAGED: dict[str, tuple[tuple[str, ...], str]] = {  # variable: its flags, what to use instead
    "LLAMA_ARG_RPC": (("--rpc",), _BACKENDS),
    "LLAMA_ARG_DEVICE": (("-dev", "--device"), f"{_BACKENDS} and {_PLAN}"),
    "LLAMA_ARG_TENSOR_SPLIT": (("-ts", "--tensor-split"), _PLAN),
    "LLAMA_ARG_N_GPU_LAYERS": (("-ngl", "--gpu-layers", "--n-gpu-layers"), "APP_GPU_LAYERS"),
    "LLAMA_ARG_SPLIT_MODE": (("-sm", "--split-mode"), "APP_SPLIT_MODE"),
    "LLAMA_ARG_MAIN_GPU": (("-mg", "--main-gpu"), _PLAN),
    "LLAMA_ARG_HOST": (("--host",), _FIXED),
    "LLAMA_ARG_PORT": (("--port",), _FIXED),
    "LLAMA_ARG_API_PREFIX": (("--api-prefix",), _FIXED),
    "LLAMA_ARG_SSL_KEY_FILE": (("--ssl-key-file",), _FIXED),
    "LLAMA_ARG_SSL_CERT_FILE": (("--ssl-cert-file",), _FIXED),
    "LLAMA_API_KEY": (("--api-key",), _KEYS),
    "LLAMA_ARG_API_KEY_FILE": (("--api-key-file",), "APP_API_KEYS_FILE"),
    "LLAMA_ARG_MODEL": (("-m", "--model"), _MODEL),
    "LLAMA_ARG_MODEL_URL": (("-mu", "--model-url"), _MODEL),
    "LLAMA_ARG_HF_REPO": (("-hf", "-hfr", "--hf-repo"), _MODEL),
    "LLAMA_ARG_HF_FILE": (("-hff", "--hf-file"), _MODEL),
    "LLAMA_ARG_DOCKER_REPO": (("-dr", "--docker-repo"), _MODEL),
    "LLAMA_ARG_MODELS_DIR": (("--models-dir",), _MODEL),
    "LLAMA_ARG_MODELS_PRESET": (("--models-preset",), _MODEL),
    "LLAMA_ARG_FIT": (("-fit", "--fit"), _PLAN),
    "LLAMA_ARG_FIT_TARGET": (("-fitt", "--fit-target"), _PLAN),
    "LLAMA_ARG_FIT_CTX": (("-fitc", "--fit-ctx"), "APP_CTX_SIZE"),
    "LLAMA_ARG_LOG_VERBOSITY": (("-lv", "--verbosity", "--log-verbosity", "-v", "--verbose", "--log-verbose"), _LOG),
    "LLAMA_ARG_LOG_FILE": (("--log-file",), _LOG),
    "LLAMA_ARG_LOG_JSONL": (("--log-jsonl",), _LOG),
    "LLAMA_ARG_LOG_DISABLE": (("--log-disable",), _LOG),
}
_MANAGED_FLAGS = {flag: instead for flags, instead in _MANAGED.values() for flag in flags}


def check_extra(extra: Sequence[str]) -> None:
    """Refuse, with a ConfigError that names what to use instead, arguments for the engine that we manage."""
    for word in extra:
        instead = _MANAGED_FLAGS.get(canonical(word.split("=", 1)[0]))
        if instead is not None:
            raise ConfigError(f"{word} after -- is managed by rpc-wrapper: use {instead}")


def check_environ(environ: Mapping[str, str]) -> None:
    """Refuse, with a ConfigError that names what to use instead, engine variables that we manage."""
    for name, (_, instead) in _MANAGED.items():
        if environ.get(name):
            raise ConfigError(f"the variable {name} is managed by rpc-wrapper: unset it and use {instead}")
