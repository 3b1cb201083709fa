"""Turn settings into services: the one place where the parts meet."""

import logging
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

import rpc_wrapper
from rpc_wrapper.agent.app import Agent
from rpc_wrapper.agent.app import create_app as create_agent
from rpc_wrapper.agent.keeper import Keeper
from rpc_wrapper.agent.worker import CacheConfig, Worker, WorkerConfig
from rpc_wrapper.cli.serving import Service, listen
from rpc_wrapper.config import Settings
from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.engine import args, binaries, machine
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.app import GatewayConfig
from rpc_wrapper.gateway.app import create_app as create_gateway
from rpc_wrapper.gateway.cluster import Cluster
from rpc_wrapper.gateway.links import LinkConfig
from rpc_wrapper.gateway.llama_server import LlamaServer
from rpc_wrapper.gateway.start import ClusterConfig
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.gate import Gate, GateOptions
from rpc_wrapper.link.tls import Identity, client_context, server_context
from rpc_wrapper.planner import ModelProfile, PlanOptions, Strategy, Workload, read_profile
from rpc_wrapper.planner.memory import SplitMode
from rpc_wrapper.supervisor import Runner

SMALL_CTX = 1024
DEFAULT_CTX = 4096
BACKEND_PORT = 50052
LAST_PORT = 51000
LOOPBACK = "127.0.0.1"
# What a worker needs beside its buffers: programs, stacks, receive buffers, the scratch of one graph.
WORKER_BYTES = 1024 * MIB
THREAD_BYTES = 80 * MIB  # a stack and one of malloc's arenas

log = logging.getLogger(__name__)


def backend_service(settings: Settings, environ: Mapping[str, str], extra: tuple[str, ...] = ()) -> Service:
    """Return a worker and its agent; raise ConfigError or EngineError."""
    identity = tls_identity(settings)
    if identity is None and not is_loopback(settings.bind):
        log.warning(
            "lending %s:%d to the network without TLS (APP_TLS): whoever reaches it can use this machine's memory "
            "and read the model; keep it on a private network",
            settings.bind,
            settings.port,
        )
    listen(settings.bind, settings.port).close()  # a taken port is told before anything starts
    budget_bytes = settings.mem * MIB
    options = args.WorkerOptions(
        host=LOOPBACK,
        port=free_port(),
        threads=settings.threads or machine.default_threads(),
        devices=settings.device,
        cache=settings.cache,
        extra=extra,
    )
    gate = Gate(
        Endpoint(LOOPBACK, options.port),
        GateOptions(
            host=settings.bind,
            port=settings.port,
            budget_bytes=budget_bytes,
            context=server_context(identity) if identity else None,
        ),
    )
    worker = Worker(worker_config(settings, options, environ), gate)
    runner = Runner(f"worker:{settings.port}", worker, stop_grace_s=settings.stop_s)
    worker_id = f"{socket.gethostname()}:{settings.port}"
    keeper = Keeper(runner)
    agent = Agent(keeper, worker, gate, worker_id=worker_id, budget_bytes=budget_bytes)
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    return Service(create_agent(agent, token), settings.bind, settings.agent_port, runner, keeper, tls=identity)


def worker_config(settings: Settings, options: args.WorkerOptions, environ: Mapping[str, str]) -> WorkerConfig:
    """Return how the worker runs.

    The gate caps every buffer, on any device. The address space is a second wall around a worker that computes on the
    CPU alone; a GPU's driver reserves far more addresses than memory, so there the limit would be a lie.
    """
    engine = binaries.find_engine(settings.engine_dir)
    on_cpu = all(name.startswith("CPU") for name in binaries.worker_device_list(engine.worker))
    allowance = WORKER_BYTES + (options.threads or 1) * THREAD_BYTES
    return WorkerConfig(
        engine=engine,
        options=options,
        environ=args.worker_environ(environ),
        rlimit_as_bytes=settings.mem * MIB + allowance if on_cpu else None,
        cache=tensor_cache(settings),
    )


def tensor_cache(settings: Settings) -> CacheConfig | None:
    """Return where and how much a worker caches; two workers of one machine never share a folder."""
    if not settings.cache:
        return None
    return CacheConfig(settings.cache_dir.expanduser() / str(settings.port), settings.cache_mib * MIB)


def tls_identity(settings: Settings) -> Identity | None:
    """Return this side's certificates, None when TLS is off."""
    if settings.tls == "off" or settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    return Identity(settings.tls_ca, settings.tls_cert, settings.tls_key)


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reachable from this machine alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def server_service(settings: Settings, environ: Mapping[str, str], extra: tuple[str, ...] = ()) -> Service:
    """Return a gateway and its llama-server; raise ConfigError, EngineError or GGUFError.

    `extra` goes to llama-server unchanged, and the planner counts what it changes about memory.
    """
    args.check_extra(extra)
    args.check_environ(environ)
    profile = read_profile(settings.model)
    options = args.with_memory_flags(server_options(settings, profile, extra), args.read_memory_flags(extra, environ))
    warn_about_context(options.ctx_size, options.n_parallel)
    config = ClusterConfig(
        engine=binaries.find_engine(settings.engine_dir),
        endpoints=() if settings.strategy == "local" else settings.rpc_backends,
        local_devices=(),
        profile=profile,
        workload=workload(options, settings.split_mode),
        plan_options=plan_options(settings, profile),
        server=options,
        environ=environ,
        links=link_config(settings),
        wait_s=settings.wait_s,
        min_backends=settings.min_backends,
        rejoin=settings.rejoin,
        canary_s=settings.canary_s,
    )
    http = httpx.AsyncClient(trust_env=False, verify=config.links.tls or True)
    effects = LlamaServer(config, http)
    runner = Runner("llama-server", effects, stop_grace_s=settings.stop_s)
    effects.on_newcomer = runner.restart
    gateway = gateway_config(settings, options.n_parallel)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with http, aclosing(effects.links):
            yield

    app = create_gateway(gateway, Cluster(config, effects, runner), lifespan)

    async def drain() -> None:
        if not await app.state.gateway.drain(settings.drain_s):
            log.warning("requests still ran after %g s (APP_DRAIN_S) and are cut", settings.drain_s)

    return Service(app, settings.bind, settings.port, runner, runner, drain)


def server_options(settings: Settings, profile: ModelProfile, extra: tuple[str, ...]) -> args.ServerOptions:
    """Return how llama-server is started, but for the backends and the plan."""
    threads = settings.threads or machine.default_threads()
    return args.ServerOptions(
        model=settings.model,
        port=free_port(),
        ctx_size=settings.ctx_size or min(profile.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX),
        n_parallel=settings.parallel,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        flash_attn=settings.flash_attn,
        embeddings=settings.embeddings,
        chat_template=settings.chat_template,
        repeat_penalty=settings.repeat_penalty,
        threads=threads,
        threads_batch=settings.threads_batch or threads,
        threads_http=settings.threads_http,
        extra=extra,
    )


def warn_about_context(ctx_size: int, n_parallel: int) -> None:
    """Say how long a conversation may get; a slot that is too small cuts answers in the middle."""
    log.info("context: %d tokens in each of %d slots", ctx_size, n_parallel)
    if ctx_size < SMALL_CTX:
        log.warning(
            "a slot holds only %d tokens, prompt and answer together: raise APP_CTX_SIZE to %d or more if you can",
            ctx_size,
            SMALL_CTX,
        )


def workload(options: args.ServerOptions, split_mode: SplitMode) -> Workload:
    """Return what the planner counts with: what llama-server will really be told."""
    default = Workload()
    n_ubatch = options.n_ubatch or default.n_ubatch
    n_batch = options.n_batch or default.n_batch
    return Workload(
        ctx_size=options.ctx_size,
        n_parallel=options.n_parallel,
        cache_type_k=options.cache_type_k,
        cache_type_v=options.cache_type_v,
        n_batch=min(n_batch, n_ubatch) if options.embeddings else n_batch,  # as llama-server's main does (server.cpp)
        n_ubatch=n_ubatch,
        kv_unified=options.kv_unified,
        flash_attn=options.flash_attn != "off",
        split_mode=split_mode,
        embeddings=options.embeddings,
    )


def plan_options(settings: Settings, profile: ModelProfile) -> PlanOptions:
    """Return how the blocks are to be shared out."""
    return PlanOptions(
        strategy=Strategy(settings.strategy),
        memory_weight=settings.memory_weight,
        boundaries=parse_boundaries(settings.boundaries),
        gpu_layers=settings.n_gpu_layers(profile.n_layer),
    )


def parse_boundaries(text: str | None) -> tuple[tuple[int, int], ...]:
    """Parse ``0-7,8-21``, whose form the settings have checked."""
    pairs = [part.split("-") for part in (text or "").split(",") if part]
    return tuple((int(first), int(last)) for first, last in pairs)


def link_config(settings: Settings) -> LinkConfig:
    """Return how the links behave."""
    identity = tls_identity(settings)
    return LinkConfig(
        relay=settings.link == "relay",
        tls=client_context(identity) if identity else None,
        network=Network(settings.latency_min, settings.latency_max, settings.link_mbit),
        deadlines=Deadlines(graph_s=settings.silence_s),
    )


def gateway_config(settings: Settings, slots: int) -> GatewayConfig:
    """Return what the gateway is told."""
    return GatewayConfig(
        slots=slots,
        max_queue=settings.max_queue,
        queue_wait_s=settings.queue_wait_s,
        api_keys=_revealed(settings.api_keys),
        admin_keys=_revealed(settings.admin_keys),
        passthrough_all=settings.passthrough == "all",
        max_body_bytes=settings.max_body_mib * MIB,
    )


def _revealed(keys: Sequence[SecretStr]) -> tuple[str, ...]:
    return tuple(key.get_secret_value() for key in keys)


def free_port() -> int:
    """Return a loopback port that nobody listens on now; the engine keeps it over all its restarts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def free_pairs(count: int) -> list[int]:
    """Return ports of which each, and the one after it, is free on loopback: a worker's and its agent's."""
    found: list[int] = []
    port = BACKEND_PORT
    while len(found) < count:
        if port > LAST_PORT:
            raise ConfigError(
                f"no {count} free pairs of ports between {BACKEND_PORT} and {LAST_PORT}: stop what holds them"
            )
        if _is_free(port) and _is_free(port + 1):
            found.append(port)
        port += 2
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the worker and the agent do
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def demo_model() -> Path:
    """Return the model that ships with the package."""
    package = Path(rpc_wrapper.__file__).parent
    for path in (package / "demo.gguf", package.parent / "models" / "demo.gguf"):
        if path.is_file():
            return path
    raise ConfigError("models/demo.gguf is missing: give a model of your own with --model FILE.gguf")
