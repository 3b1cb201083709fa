"""How many tokens the engine computes at once, so that every number of slots works."""

from dataclasses import replace

from rpc_wrapper.engine.args import ServerOptions
from rpc_wrapper.errors import ConfigError

UBATCH = 512  # the engine's own default (common/common.h, n_ubatch)


def evenly_batched(options: ServerOptions) -> ServerOptions:
    """Return ``options`` with a ubatch that all slots share evenly, where embeddings are served.

    At its start the engine lays out one graph for a ubatch that is filled by all slots, and rounds its tokens to a
    multiple of theirs (llama-context.cpp, graph_reserve); the matrix that pools an embedding is not rounded with them,
    and with a rest the engine aborts. Raises ConfigError when the user's own ubatch leaves one.
    """
    given, n_parallel = options.n_ubatch, options.n_parallel
    rest = (given or UBATCH) % n_parallel
    if not options.embeddings or not rest:
        return options
    if given is None:
        return replace(options, n_ubatch=max(1, UBATCH // n_parallel) * n_parallel)
    raise ConfigError(
        f"--ubatch-size {given} is no multiple of the {n_parallel} slots, which embeddings need: "
        f"use {max(1, given // n_parallel) * n_parallel}, or APP_EMBEDDINGS=false"
    )
