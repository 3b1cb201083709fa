"""Turn settings into a backend: a worker, its gate and its agent."""

import logging
import socket
from collections.abc import Mapping

from rpc_wrapper.agent.app import Agent, create_app
from rpc_wrapper.agent.keeper import Keeper
from rpc_wrapper.agent.worker import SPARE_MIB, Worker, WorkerConfig
from rpc_wrapper.cli.local import LOOPBACK, free_port, is_loopback, restart_policy, tls_identity
from rpc_wrapper.cli.serving import Service, listen
from rpc_wrapper.config import Settings
from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.engine import args, binaries, machine
from rpc_wrapper.link.cache import TensorCache
from rpc_wrapper.link.gate import Gate, GateOptions
from rpc_wrapper.link.tls import server_context
from rpc_wrapper.supervisor import Runner

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
    config = worker_config(settings, options, environ)
    if config.rlimit_as_bytes is not None and (shortage := memory_shortage(settings.mem, machine.memory_limit_bytes())):
        log.warning(shortage)
    worker = Worker(config, gate)
    runner = Runner(f"worker:{settings.port}", worker, restart_policy(settings), stop_grace_s=settings.stop_s)
    worker_id = f"{socket.gethostname()}:{settings.port}"
    keeper = Keeper(runner)
    cache = config.cache.folder if config.cache else None
    agent = Agent(keeper, worker, gate, worker_id=worker_id, budget_bytes=budget_bytes, cache=cache)
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    return Service(create_app(agent, token), settings.bind, settings.agent_port, runner, keeper, tls=identity)


def memory_shortage(mem_mib: int, limit_bytes: int) -> str | None:
    """Say why a CPU worker cannot keep the promise of APP_MEM under a memory limit; None when it can."""
    limit_mib, needed_mib = limit_bytes // MIB, mem_mib + SPARE_MIB
    if limit_mib >= needed_mib:
        return None
    fitting_mib = limit_mib - SPARE_MIB
    smaller = f" or APP_MEM to at most {fitting_mib}" if fitting_mib > 0 else ""
    return (
        f"APP_MEM={mem_mib} lends {mem_mib} MiB, but this machine or container may use {limit_mib} MiB in all: the "
        f"system will kill the worker when it is filled; set the memory limit to at least {needed_mib} MiB{smaller}"
    )


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
        budget_bytes=settings.mem * MIB,
    )


def tensor_cache(settings: Settings) -> TensorCache | None:
    """Return where and how much a worker caches; two workers of one machine never share a folder."""
    if not settings.cache:
        return None
    return TensorCache(settings.cache_dir.expanduser() / str(settings.port), settings.cache_mib * MIB)
