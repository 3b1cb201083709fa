"""Every setting once: its name, type, bounds, default and one sentence of meaning."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rpc_wrapper.config.contradictions import contradictions
from rpc_wrapper.config.link_overrides import LinkOverride, parse_link_overrides
from rpc_wrapper.devices import LOCAL, Endpoint, parse_endpoints
from rpc_wrapper.errors import ConfigError

SERVER_PORT = 8080
BACKEND_PORT = 50052

# kv_cache_types, llama.cpp common/arg.cpp; the quantised ones need flash attention for V (llama-context.cpp).
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]

_BOUNDARIES = re.compile(r"\d+-\d+(,\d+-\d+)*")


def _endpoints(value: Any) -> Any:
    """Parse a comma list, or a file's list of strings."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str):
        return value
    words = [word.strip() for word in value.split(",") if word.strip()]
    try:
        endpoints = parse_endpoints(",".join(word for word in words if word != LOCAL.host))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if LOCAL.host in words:
        return (*endpoints, LOCAL)
    if not endpoints:
        raise ValueError("it names no endpoint: write host:port,host:port, or use APP_STRATEGY=local to need none")
    return endpoints


def _link_overrides(value: Any) -> Any:
    """Parse a comma list, or a file's list of strings."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    try:
        return parse_link_overrides(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _keys(value: Any) -> Any:
    """Split a comma list of keys, drop blanks and repetitions."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(key, str) for key in value):
        raise ValueError("write keys as text, separated by commas (quote numbers in a file)")
    keys = tuple(dict.fromkeys(key.strip() for key in value if key.strip()))
    for key in keys:
        _key(key)
    return keys


def _key(value: Any) -> Any:
    if isinstance(value, str) and not all("!" <= character <= "~" for character in value):
        raise ValueError("a key is printable ASCII without spaces, since it travels in an HTTP header")
    return value


def _switch(value: Any) -> Any:
    """Turn YAML 1.1's booleans back into the words they were, and take the usual other spellings."""
    words = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}
    text = str(value).lower()
    return words.get(text, text)


def _default_port(data: Mapping[str, Any]) -> int:
    return SERVER_PORT if data["mode"] == "server" else BACKEND_PORT


def _default_agent_port(data: Mapping[str, Any]) -> int:
    return int(data["port"]) + 1


def _boundaries(value: Any) -> Any:
    if isinstance(value, str) and not _BOUNDARIES.fullmatch(value := value.replace(" ", "")):
        raise ValueError("write inclusive block ranges, for example 0-7,8-21")
    return value


Keys = Annotated[tuple[SecretStr, ...], BeforeValidator(_keys)]
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
SecondsOrZero = Annotated[float, Field(ge=0)]


class Settings(BaseSettings):
    """Everything a user can set; each field is ``APP_`` + its name in the environment.

    ``Settings()`` is the defaults whatever the environment says; :func:`rpc_wrapper.config.load_settings` reads it.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, env_prefix="APP_"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind the back of the layers, which remember where each value came from."""
        return (init_settings,)

    # Role and address
    mode: Literal["backend", "server", "none"] = Field(
        default="backend", description="Role of this process: lend memory, serve a model, or idle for exec."
    )
    bind: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on (0.0.0.0 inside a container)."
    )
    port: Port = Field(
        default_factory=_default_port, description="Port of the gateway (8080) or of the backend (50052), by mode."
    )
    agent_port: Port = Field(
        default_factory=_default_agent_port,
        validate_default=True,
        description="Port of the agent beside a backend; by default the port after the backend's own.",
    )

    # Backend
    mem: Positive = Field(default=1024, description="Memory this backend lends, in MiB.")
    device: str | None = Field(
        default=None, description="Devices the worker exposes, for example CUDA0,CPU; all by default."
    )

    cache: bool = Field(default=True, description="Keep large tensors on disk, so that a restart finds them there.")
    cache_dir: Path = Field(
        default=Path("~/.cache/rpc-wrapper/tensors"), description="Folder of the tensor cache, one part per port in it."
    )
    cache_mib: Positive = Field(
        default=16384, description="Most the tensor cache may take, in MiB, with what stopped backends left beside it."
    )

    # Server: backends
    rpc_backends: Annotated[tuple[Endpoint, ...], BeforeValidator(_endpoints)] = Field(
        default=parse_endpoints("backend-cuda:50052,backend-cpu:50052"),
        description="Backends to serve over: host:port[+agent=PORT][=MIB], separated by commas; "
        "local adds the server's own devices.",
    )
    wait_s: SecondsOrZero = Field(default=120, description="How long a start waits for its backends, in seconds.")
    min_backends: int | None = Field(default=None, ge=0, description="Backends a start needs at least; all by default.")
    rejoin: Literal["idle", "now", "never"] = Field(
        default="idle", description="When a backend that comes late is taken in."
    )
    rejoin_wait_s: SecondsOrZero = Field(
        default=5,
        description="How long a recovery waits for a backend just lost before it goes on without it, in seconds.",
    )
    rejoin_probes: int = Field(
        default=3, ge=1, le=100, description="Probes in a row that a backend must answer after a failure."
    )

    # Server: model and engine
    model: Path = Field(default=Path("/app/models/TinyLlama-1.1B-q4_0.gguf"), description="The GGUF file to serve.")
    ctx_size: Positive | None = Field(
        default=None,
        description="Context per slot, in tokens; by default what the model was trained for, 4096 at most.",
    )
    parallel: Positive = Field(default=4, description="Slots: requests answered at the same time.")
    cache_type_k: CacheType = Field(default="f16", description="Type of the K half of the KV cache.")
    cache_type_v: CacheType = Field(default="f16", description="Type of the V half of the KV cache.")
    flash_attn: Switch = Field(default="auto", description="Flash attention.")
    embeddings: bool = Field(default=True, description="Serve embeddings beside completions.")
    chat_template: str | None = Field(
        default=None, description="Name or text of a chat template; the model's own by default."
    )
    repeat_penalty: float = Field(default=1.0, gt=0, description="Default repeat penalty; 1.0 is none.")
    threads: Positive | None = Field(default=None, description="Threads that generate; from the CPU quota by default.")
    threads_batch: Positive | None = Field(
        default=None, description="Threads that read prompts; as many as APP_THREADS."
    )
    threads_http: Positive | None = Field(
        default=None, description="Threads of the engine's HTTP server; its own default."
    )
    engine_dir: Path | None = Field(
        default=None, description="Folder of the llama.cpp programs; the installed ones by default."
    )

    # Server: placement
    gpu_layers: int = Field(default=99, ge=0, description="Blocks and output on the backends, from the end; 99 is all.")
    split_layer: Positive | None = Field(
        default=None, description="First block on the backends; those before stay here."
    )
    split_mode: Literal["layer", "tensor"] = Field(
        default="layer", description="Split by whole blocks or inside each tensor."
    )
    strategy: Literal["uniform", "memory", "compute", "mixed", "custom", "single_device", "local"] = Field(
        default="memory", description="How blocks are shared out over the devices."
    )
    boundaries: Annotated[str | None, BeforeValidator(_boundaries)] = Field(
        default=None, description="Inclusive block ranges of strategy custom, one per device: 0-7,8-21."
    )
    memory_weight: float = Field(default=0.6, ge=0, le=1, description="Strategy mixed: weight of memory against speed.")

    # Links
    link: Literal["relay", "direct"] = Field(
        default="relay",
        description="Relay between llama-server and each backend: measured, bounded and watched; or none.",
    )
    latency_min: SecondsOrZero = Field(
        default=0, description="Least delay simulated per message and direction, in seconds."
    )
    latency_max: SecondsOrZero = Field(
        default=0, description="Longest delay simulated per message and direction, in seconds."
    )
    link_mbit: float | None = Field(
        default=None, gt=0, description="Bandwidth simulated per link and direction, in Mbit/s."
    )
    link_overrides: Annotated[tuple[LinkOverride, ...], BeforeValidator(_link_overrides)] = Field(
        default=(),
        description="What single links simulate instead: host:port[+latency=MIN[-MAX]][+mbit=N], separated by commas.",
    )
    tls: Literal["off", "require"] = Field(
        default="off",
        description="Mutual TLS 1.3 between server and backends, agents included; `certs init` makes the files.",
    )
    tls_ca: Path | None = Field(default=None, description="Certificate of the CA that signed both sides, PEM.")
    tls_cert: Path | None = Field(default=None, description="This machine's certificate, PEM.")
    tls_key: Path | None = Field(default=None, description="The key of this machine's certificate, PEM.")
    silence_s: Seconds = Field(
        default=30, description="Longest silence of a backend that computes, in seconds; longer for more work."
    )

    stopped_s: Seconds = Field(
        default=10, description="Longest a worker may be stopped (SIGSTOP) while it sends nothing, in seconds."
    )
    load_silence_s: Seconds = Field(
        default=120, description="Longest a load may stand still, in seconds; longer while much is left to load."
    )

    # Gateway
    max_queue: int = Field(default=32, ge=0, description="Requests that may wait for a slot or a recovery.")
    queue_wait_s: Seconds = Field(default=300, description="How long a request waits in the queue, in seconds.")
    max_body_mib: Positive = Field(default=16, description="Largest request body, in MiB.")
    token_delay_min_s: SecondsOrZero = Field(
        default=0, description="Least pause simulated before each token of a stream, in seconds."
    )
    token_delay_max_s: SecondsOrZero = Field(
        default=0, description="Longest pause simulated before each token of a stream, in seconds; 0 is none."
    )
    token_delay_seed: int | None = Field(
        default=None, description="Seed of these pauses; without one they differ from start to start."
    )
    passthrough: Literal["safe", "all"] = Field(default="safe", description="Engine endpoints strangers may reach.")
    api_keys: Keys = Field(default=(), description="Keys that may use the API, separated by commas; none means open.")
    api_keys_file: Path | None = Field(default=None, description="File of API keys, one per line.")
    admin_keys: Keys = Field(default=(), description="Keys that may change state, separated by commas.")
    admin_keys_file: Path | None = Field(default=None, description="File of admin keys, one per line.")
    agent_token: Annotated[SecretStr | None, BeforeValidator(_key)] = Field(
        default=None, description="Secret shared by the server and its agents."
    )
    agent_token_file: Path | None = Field(default=None, description="File that holds the agent token on one line.")

    # Resuming
    resume: bool = Field(default=True, description="Go on with requests whose engine was lost, where they stopped.")
    resume_replay_tokens: int = Field(
        default=64, ge=0, description="Delivered tokens below which a lost request is replayed from its start."
    )
    resume_attempts: Positive = Field(default=8, description="Losses in a row without a new token that end a request.")
    resume_wait_s: Seconds = Field(default=600, description="Pauses that one request may add up to, in seconds.")
    exact: bool = Field(
        default=False, description="Resume greedy text exactly as it would have been: flash attention off (CPU)."
    )

    # Life cycle and logs
    canary_s: Seconds = Field(
        default=30, description="Idle time after which a token is generated to prove life, in seconds."
    )
    stop_s: Seconds = Field(default=10, description="Time a child gets between SIGTERM and SIGKILL, in seconds.")
    backoff_s: Seconds = Field(
        default=0.25, description="First pause before a failed child is started again, doubled each time, in seconds."
    )
    backoff_max_s: Seconds = Field(default=30, description="Longest of these pauses, in seconds.")
    breaker_failures: Positive = Field(
        default=5, description="Failures that end a first start, or later make a crash loop, which rests for a window."
    )
    breaker_window_s: Seconds = Field(
        default=60, description="Time within which so many failures are a crash loop, in seconds."
    )
    drain_s: SecondsOrZero = Field(
        default=30, description="Time running requests get to finish at shutdown, in seconds."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Form of the log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line logged."
    )
    config: Path | None = Field(default=None, description="YAML or JSON file of settings, by their names without APP_.")
    template: str | None = Field(
        default=None, description="Named set of settings: basic, memory, performance or mixed."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings that contradict each other."""
        for contradiction in contradictions(self):
            raise ValueError(contradiction)
        return self

    def n_gpu_layers(self, block_count: int) -> int:
        """Return how many of a model's blocks, plus one for its output, go to the backends (llama.cpp's ``-ngl``).

        Raises ConfigError when APP_SPLIT_LAYER is out of the model's range or contradicts an APP_GPU_LAYERS.
        """
        everything = block_count + 1
        gpu_layers = min(self.gpu_layers, everything)
        if self.split_layer is None:
            return gpu_layers
        if self.split_layer >= block_count:
            raise ConfigError(
                f"APP_SPLIT_LAYER={self.split_layer} is out of range:"
                f" this model has {block_count} blocks, use 1 to {block_count - 1}"
            )
        wanted = everything - self.split_layer
        if "gpu_layers" in self.model_fields_set and gpu_layers != wanted:
            raise ConfigError(
                f"APP_SPLIT_LAYER={self.split_layer} means APP_GPU_LAYERS={wanted} for {block_count} blocks,"
                f" but APP_GPU_LAYERS={self.gpu_layers} is set: keep one of them"
            )
        return wanted
