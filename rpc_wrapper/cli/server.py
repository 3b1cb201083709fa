"""Turn settings into a server: a gateway, its journal, and the cluster behind it."""

import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from rpc_wrapper.cli.local import free_port, restart_policy, tls_identity
from rpc_wrapper.cli.serving import Service
from rpc_wrapper.config import Settings
from rpc_wrapper.devices import LOCAL, MIB, Device, format_endpoints
from rpc_wrapper.engine import args, binaries, machine
from rpc_wrapper.engine.batch import evenly_batched
from rpc_wrapper.engine.local import local_devices
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.app import GatewayConfig, create_app
from rpc_wrapper.gateway.cluster import Cluster
from rpc_wrapper.gateway.embeddings import TextByText
from rpc_wrapper.gateway.exchange import Exchange
from rpc_wrapper.gateway.journal import ResumeConfig, ResumingExchange, Silence, Vigil, WatchConfig
from rpc_wrapper.gateway.links import LinkConfig
from rpc_wrapper.gateway.llama_server import LlamaServer
from rpc_wrapper.gateway.roll_call import Patience
from rpc_wrapper.gateway.start import ClusterConfig
from rpc_wrapper.gateway.token_delay import TokenDelay
from rpc_wrapper.gateway.workers import AgentAccess, Workers
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.tls import client_context
from rpc_wrapper.planner import ModelProfile, PlanOptions, Strategy, Workload, read_profile
from rpc_wrapper.planner.memory import SplitMode
from rpc_wrapper.supervisor import Fault, FaultKind, Runner

SMALL_CTX = 1024
DEFAULT_CTX = 4096

log = logging.getLogger(__name__)


def server_service(settings: Settings, environ: Mapping[str, str], extra: tuple[str, ...] = ()) -> Service:
    """Return a gateway and its llama-server; raise ConfigError, EngineError or GGUFError.

    `extra` goes to llama-server unchanged, and the planner counts what it changes about memory.
    """
    args.check_extra(extra)
    args.check_environ(environ)
    profile = read_profile(settings.model)
    options = args.with_memory_flags(server_options(settings, profile, extra), args.read_memory_flags(extra, environ))
    options = evenly_batched(options)
    warn_about_context(options.ctx_size, options.n_parallel)
    config = cluster_config(settings, profile, options, environ)
    http = httpx.AsyncClient(trust_env=False, verify=config.links.tls or True)
    effects = LlamaServer(config, http)
    runner = Runner("llama-server", effects, restart_policy(settings), stop_grace_s=settings.stop_s)
    effects.attach(runner.restart, runner.note)
    gateway = gateway_config(settings, options.n_parallel)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with http, aclosing(effects.links):
            yield

    def on_silence(silence: Silence) -> None:
        text = f"no token in {silence.waited_s:.1f} s of {silence.phase}, {silence.deadline_s:.1f} s is the most"
        fault = Fault(FaultKind.SILENCE, text, None, silence.phase, silence.waited_s, silence.deadline_s)
        runner.report_fault(fault)

    cluster = Cluster(config, effects, runner)
    vigil = Vigil(WatchConfig(decode_floor_s=settings.silence_s, prefill_floor_s=settings.silence_s), on_silence)

    def resuming(direct: Exchange) -> Exchange:
        exchange = ResumingExchange(TextByText(direct), cluster, resume_config(settings), vigil)
        cluster.attach("journal", exchange.journal.to_json)
        return exchange

    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    workers = Workers(AgentAccess(http, config.links.tls is not None, token), lambda: effects.reports)
    app = create_app(gateway, cluster, lifespan, resuming, workers)
    cluster.attach("traffic", app.state.gateway.traffic)
    cluster.attach("admission", app.state.gateway.doors.to_json)

    async def drain() -> None:
        if not await app.state.gateway.drain(settings.drain_s):
            log.warning("requests still ran after %g s (APP_DRAIN_S) and are cut", settings.drain_s)

    return Service(app, settings.bind, settings.port, runner, runner, drain)


def own_devices(engine: binaries.Engine, profile: ModelProfile) -> tuple[Device, ...]:
    """Return the server's own devices; its CPU's memory also holds the embedding, whatever the plan."""
    return tuple(
        replace(each, budget_bytes=max(each.budget_bytes - profile.embedding_bytes, 0)) if each.kind == "cpu" else each
        for each in local_devices(engine)
    )


def cluster_config(
    settings: Settings, profile: ModelProfile, options: args.ServerOptions, environ: Mapping[str, str]
) -> ClusterConfig:
    """Return what every start of llama-server needs to know."""
    engine = binaries.find_engine(settings.engine_dir)
    is_local = settings.strategy == "local"
    return ClusterConfig(
        engine=engine,
        endpoints=() if is_local else tuple(each for each in settings.rpc_backends if each != LOCAL),
        local_devices=own_devices(engine, profile) if is_local or LOCAL in settings.rpc_backends else (),
        profile=profile,
        workload=workload(options, settings.split_mode),
        plan_options=plan_options(settings, profile),
        server=options,
        environ=environ,
        links=link_config(settings),
        patience=Patience(settings.wait_s, settings.rejoin_wait_s, settings.min_backends),
        rejoin=settings.rejoin,
        rejoin_probes=settings.rejoin_probes,
        stopped_s=settings.stopped_s,
        load_silence_s=settings.load_silence_s,
        canary_s=settings.canary_s,
    )


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
        flash_attn="off" if settings.exact else settings.flash_attn,
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
    network = Network(settings.latency_min, settings.latency_max, settings.link_mbit)
    return LinkConfig(
        relay=settings.link == "relay",
        tls=client_context(identity) if identity else None,
        network=network,
        networks=overridden(network, settings),
        deadlines=Deadlines(graph_s=settings.silence_s),
    )


def overridden(common: Network, settings: Settings) -> dict[tuple[str, int], Network]:
    """Return the networks of the backends that have one of their own; raise ConfigError for one that is not listed."""
    listed = {(endpoint.host, endpoint.port) for endpoint in settings.rpc_backends}
    networks = {}
    for override in settings.link_overrides:
        key = override.endpoint.host, override.endpoint.port
        if key not in listed:
            raise ConfigError(
                f"APP_LINK_OVERRIDES names {override.endpoint}, which is not one of the backends"
                f" {format_endpoints(settings.rpc_backends)}: write it as it is listed there"
            )
        latency_min_s, latency_max_s = override.latency_s or (common.latency_min_s, common.latency_max_s)
        mbit_per_s = override.mbit_per_s or common.mbit_per_s
        networks[key] = Network(
            latency_min_s, latency_max_s, None if mbit_per_s == math.inf else mbit_per_s, common.seed
        )
    return networks


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
        model=settings.model.name,
        token_delay=TokenDelay(settings.token_delay_min_s, settings.token_delay_max_s, settings.token_delay_seed),
    )


def resume_config(settings: Settings) -> ResumeConfig:
    """Return how far to go for a request whose engine was lost."""
    return ResumeConfig(
        enabled=settings.resume,
        replay_tokens=settings.resume_replay_tokens,
        attempts=settings.resume_attempts,
        wait_s=settings.resume_wait_s,
    )


def _revealed(keys: Sequence[SecretStr]) -> tuple[str, ...]:
    return tuple(key.get_secret_value() for key in keys)
