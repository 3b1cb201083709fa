"""Model profiles out of thin air, for tests that need no file."""

from collections.abc import Sequence

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.planner.profile import Block, ModelProfile


def profile_of(blocks: Sequence[Block], output_bytes: int = MIB, n_embd: int = 256) -> ModelProfile:
    """Return a profile with these blocks and otherwise ordinary numbers."""
    n_layer = len(blocks)
    return ModelProfile(
        name="made-up",
        architecture="llama",
        file_type="Q8_0",
        quantisation="Q8_0",
        blocks=tuple(blocks),
        embedding_bytes=MIB,
        output_bytes=output_bytes,
        shared_bytes=0,
        is_tied=False,
        n_vocab=1000,
        n_embd=n_embd,
        n_ff=2 * n_embd,
        n_head=(4,) * n_layer,
        n_head_kv=(2,) * n_layer,
        head_dim_k=n_embd // 4,
        head_dim_v=n_embd // 4,
        n_ctx_train=4096,
    )


def even_profile(n_layer: int, block_bytes: int = MIB, output_bytes: int = MIB, n_embd: int = 256) -> ModelProfile:
    """Return a profile of equal blocks."""
    return profile_of([Block(block_bytes, block_bytes, n_embd // 2, n_embd // 2)] * n_layer, output_bytes, n_embd)


def remote(*budgets_mib: int, speeds: Sequence[float] = ()) -> tuple[Device, ...]:
    """Return one backend per budget, named RPC0 and on."""
    rates = speeds or (1.0,) * len(budgets_mib)
    return tuple(
        Device(f"RPC{index}", mib * MIB, Endpoint(f"w{index}", 50052), speed=speed)
        for index, (mib, speed) in enumerate(zip(budgets_mib, rates, strict=True))
    )


def local_cpu(mib: int) -> Device:
    """Return the server's own CPU."""
    return Device("CPU", mib * MIB)
