"""What a run of blocks costs a device, in bytes: weights, KV cache or recurrent state, and compute buffer.

Weights and caches follow llama.cpp's own arithmetic exactly (llama-kv-cache.cpp, llama-memory-recurrent.cpp). The
compute buffer is what its graph allocator ends up with: :class:`ComputeModel` is fitted to measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.profile import ModelProfile

SplitMode = Literal["layer", "tensor"]
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")  # common/arg.cpp
CELL_PADDING = 256  # GGML_PAD of n_ctx_seq, llama-context.cpp
PIPELINE_COPIES = 4  # GGML_SCHED_MAX_COPIES, ggml-backend.cpp
MAX_PARALLEL = 256  # LLAMA_MAX_SEQ, llama-cparams.h
MAX_CTX = 2**31


@dataclass(frozen=True, slots=True)
class Workload:
    """What the model will be asked for; ``ctx_size`` is per slot, 0 for what the model was trained with.

    The slots together have ``ctx_size * n_parallel`` tokens: in one pool with ``kv_unified``, else each has its own.
    """

    ctx_size: int = 4096
    n_parallel: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    n_batch: int = 2048
    n_ubatch: int = 512
    kv_unified: bool = False
    flash_attn: bool = True
    split_mode: SplitMode = "layer"
    embeddings: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (
            ("ctx_size", self.ctx_size, MAX_CTX),
            ("n_parallel", self.n_parallel, MAX_PARALLEL),
            ("n_batch", self.n_batch, MAX_CTX),
            ("n_ubatch", self.n_ubatch, MAX_CTX),
        ):
            least = 0 if name == "ctx_size" else 1
            if not least <= value <= most:
                raise PlanError(f"{name} is {value}, use {least} to {most}")
        for kind in (self.cache_type_k, self.cache_type_v):
            if kind not in CACHE_TYPES:
                raise PlanError(f"cache type {kind!r} is unknown, use one of {', '.join(CACHE_TYPES)}")
        if self.cache_type_v not in ("f32", "f16", "bf16") and not self.flash_attn:
            raise PlanError(f"cache_type_v {self.cache_type_v} needs flash attention: allow it, or use f16")
        if self.split_mode not in ("layer", "tensor"):
            raise PlanError(f"split mode {self.split_mode!r} does not work over RPC, use layer or tensor")

    def cells_per_stream(self, profile: ModelProfile) -> int:
        """Return how many tokens one stream of the KV cache holds: of a slot, or of all when they share it."""
        per_slot = self.ctx_size or profile.n_ctx_train or 512
        return _pad(per_slot * self.n_parallel if self.kv_unified else per_slot)

    @property
    def n_streams(self) -> int:
        """Return how many separate caches a layer has."""
        return 1 if self.kv_unified else self.n_parallel

    def n_ctx(self, profile: ModelProfile) -> int:
        """Return the engine's ``n_ctx``: the tokens of all slots together, padded."""
        return self.cells_per_stream(profile) * self.n_streams


@dataclass(frozen=True, slots=True)
class Run:
    """A run of slots, as far as computing it is concerned.

    ``is_start``: it begins with the first block; ``is_tail``: the last block is the only one in it.
    """

    has_blocks: bool = True
    has_output: bool = False
    is_start: bool = False
    is_tail: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """What one device must hold, in bytes."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the sum."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


class Costs:
    """The cost of any run of slots of one model under one workload, in constant time.

    A run is ``[first, stop)`` over slots 0..n: n blocks, and slot n is the output.
    """

    def __init__(self, profile: ModelProfile, workload: Workload) -> None:
        self.profile = profile
        self.workload = workload
        self.n_layer = profile.n_layer
        kv = layer_cache_bytes(profile, workload)
        self._weights = _sums([block.weights_bytes for block in profile.blocks] + [profile.output_bytes])
        self._active = _sums([block.active_bytes for block in profile.blocks] + [profile.output_bytes])
        self._kv = _sums([*kv, 0])
        self.compute_model = ComputeModel(profile, workload)
        # The twelve kinds of run, looked up some thousand times per plan: blocks left (2 is many), output, start.
        kinds = [(left, output, start) for left in range(3) for output in (False, True) for start in (False, True)]
        self._compute = [
            [
                self.compute_model.device(Run(left > 0, output, start, is_tail=left == 1), pipelined=pipelined)
                for left, output, start in kinds
            ]
            for pipelined in (False, True)
        ]

    def need(self, first: int, stop: int, pipelined: bool) -> Need:
        """Return what the run needs on a device; ``pipelined`` when devices overlap their work."""
        if first >= stop:
            return Need(0, 0, 0)
        weights = self._weights[stop] - self._weights[first] + self.profile.shared_bytes
        return Need(weights, self._kv[stop] - self._kv[first], self.compute(first, stop, pipelined))

    def total(self, first: int, stop: int, pipelined: bool) -> int:
        """Return the bytes of :meth:`need`, quicker."""
        if first >= stop:
            return 0
        weights = self._weights[stop] - self._weights[first] + self.profile.shared_bytes
        return weights + self._kv[stop] - self._kv[first] + self.compute(first, stop, pipelined)

    def compute(self, first: int, stop: int, pipelined: bool) -> int:
        """Return the compute buffer of the run."""
        left = self.n_layer - first
        kind = 4 * (left if left < 2 else 2) + 2 * (stop > self.n_layer) + (first == 0)
        return self._compute[pipelined][kind]

    def active(self, first: int, stop: int) -> int:
        """Return the bytes of weights that one token reads in this run: its time, on a device limited by memory."""
        return self._active[stop] - self._active[first] if first < stop else 0


def layer_cache_bytes(profile: ModelProfile, workload: Workload) -> list[int]:
    """Return the KV cache plus recurrent state of each block, over all slots."""
    cells = workload.cells_per_stream(profile)
    window = _window_cells(profile, workload)
    v_widest = max(block.v_width for block in profile.blocks)
    sizes = []
    for block in profile.blocks:
        # without flash attention V is kept transposed, padded to the widest layer ([TAG_V_CACHE_VARIABLE])
        v_width = block.v_width if workload.flash_attn or not block.v_width else v_widest
        row = row_bytes(block.k_width, workload.cache_type_k) + row_bytes(v_width, workload.cache_type_v)
        n_cells = window if block.is_windowed else cells
        sizes.append(row * n_cells * workload.n_streams + 4 * block.state_width * workload.n_parallel)
    return sizes


@lru_cache(maxsize=256)
def row_bytes(width: int, cache_type: str) -> int:
    """Return the bytes of one cache row; raise PlanError if the type's blocks do not divide it."""
    block_items, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[cache_type.upper()]]
    if width % block_items:
        raise PlanError(
            f"cache type {cache_type} stores {block_items} numbers at a time, which {width} does not divide by"
        )
    return int(width // block_items * block_bytes)


class ComputeModel:
    """The compute buffer by role, fitted to the pinned engine's own reports (layer mode, CPU workers).

    What its graph holds at its fullest, for the rows of one ubatch: the attention mask and, when devices work on
    several ubatches at once (*pipelined*), four copies of it and of the hidden state; then either the feed-forward
    part, three wide rows beside three hidden ones, or attention's four hidden ones, plus all heads' scores without
    flash attention.
    After the last block's attention only the rows that become output are left: llama-server asks for one per slot,
    except when it serves embeddings. Recurrent layers are fitted to mamba alone.
    """

    def __init__(self, profile: ModelProfile, workload: Workload) -> None:
        n_rows = min(workload.n_ubatch, workload.n_batch, workload.n_ctx(profile))
        n_outputs = n_rows if workload.embeddings else min(workload.n_parallel, n_rows)
        heads = max(profile.n_head)
        n_hidden = max(profile.n_embd, heads * profile.head_dim_k)
        n_wide = profile.n_ff * max(profile.n_expert_used, 1)
        cells = workload.cells_per_stream(profile) if any(block.k_width for block in profile.blocks) else 0
        self._hidden = 4 * n_rows * n_hidden
        self._passed = 4 * n_rows * profile.n_embd  # what one block hands to the next
        self._wide = 4 * n_rows * n_wide
        self._summed = self._passed * max(profile.n_expert_used, 1)
        self._mask = (2 if workload.flash_attn else 4) * n_rows * (cells + _window_cells(profile, workload))
        self._scores = 0 if workload.flash_attn else 4 * n_rows * heads * cells
        self._feed_forward = _feed_forward_bytes(4 * n_rows, n_wide, n_hidden)
        self._last_feed_forward = _feed_forward_bytes(4 * n_outputs, n_wide, n_hidden)
        n_kept = 2 if workload.embeddings else 1  # the rows themselves stay, to be pooled
        self._logits = 4 * n_outputs * (profile.n_vocab + n_kept * profile.n_embd)
        self._inner = 4 * n_rows * profile.n_inner
        self._state = 4 * workload.n_parallel * max(block.state_width for block in profile.blocks)

    def device(self, run: "Run", *, pipelined: bool) -> int:
        """Return the compute buffer of a device of a backend, or of a local accelerator."""
        logits = self._logits if run.has_output else 0
        if not run.has_blocks:
            return logits
        inputs = PIPELINE_COPIES * (self._mask + self._passed) if pipelined else self._mask
        attention = (8 if pipelined else 5) * self._hidden + self._scores if self._scores else 4 * self._hidden
        feed_forward = self._last_feed_forward if run.is_tail else self._feed_forward
        return max(inputs + max(attention, feed_forward, logits), self._recurrent(run, pipelined=pipelined))

    def tensor_mode(self, n_devices: int) -> int:
        """Return the compute buffer of each of ``n_devices`` that share every tensor.

        It is as large as if nothing were shared (ggml_backend_meta_buffer_type_alloc_buffer), and each step of a
        summation over the devices has a buffer of its own (n_reduce_steps in ggml-backend-meta.cpp).
        """
        whole = self.device(Run(has_output=True, is_start=True), pipelined=False)
        return whole + (n_devices - 1).bit_length() * self._summed

    def _recurrent(self, run: "Run", *, pipelined: bool) -> int:
        if not self._inner:
            return 0
        copies = (12 if run.is_start else 25) if pipelined else 0
        return 6 * self._inner + (1 + copies) * self._hidden + self._state

    def host(self, *, pipelined: bool) -> int:
        """Return the host's compute buffer when it holds no blocks: it makes the inputs for everybody."""
        copies = PIPELINE_COPIES if pipelined else 1
        hidden = (9 if self._scores else 5) if pipelined else (3 if self._scores else 2)
        return copies * self._mask + hidden * self._hidden

    @property
    def host_extra(self) -> int:
        """Return what the host's CPU needs on top of :meth:`device` when it holds blocks: the embedded tokens."""
        return self._hidden + (self._wide if self._wide <= self._hidden else 0)


def _feed_forward_bytes(row_bytes: int, n_wide: int, n_hidden: int) -> int:
    """Return the feed-forward part; when it is the narrower one, it fits into the holes that attention left."""
    return 3 * row_bytes * (n_wide + n_hidden) if n_wide > n_hidden else 0


def _window_cells(profile: ModelProfile, workload: Workload) -> int:
    """Return the cells of the second, windowed cache; 0 when the model has none."""
    if not any(block.is_windowed for block in profile.blocks):
        return 0
    cells = workload.cells_per_stream(profile)
    seqs = workload.n_parallel if workload.kv_unified else 1
    return min(cells, _pad(min(cells, profile.n_window * seqs + workload.n_ubatch)))


def _sums(values: Sequence[int]) -> list[int]:
    return [0, *accumulate(values)]


def _pad(n: int) -> int:
    return -(-n // CELL_PADDING) * CELL_PADDING
