"""What every device holds in split mode ``tensor``: its slice of each tensor and of each block's cache.

The rules are those of ``llama_meta_device_get_split_state`` in llama-model.cpp. A tensor is cut along one dimension, in
whole *grains* (groups of heads, or blocks of the quantisation), at the cumulative shares; what remains of the last
grain goes to the last device. In which order the devices come rotates from block to block, so that the rounding evens
out. A tensor without a rule is mirrored: every device holds all of it. The linear attention of hybrid models is
counted in even parts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from rpc_wrapper.planner.memory import Workload, layer_cache_bytes
from rpc_wrapper.planner.profile import ModelProfile, Tensor
from rpc_wrapper.planner.topology import f32

KERNEL_WIDTH = 128  # grains are widened to this where it leaves no device without work

# llm_arch_supports_sm_tensor in llama-arch.cpp says no to these.
UNSUPPORTED = frozenset(
    (
        "grok", "mpt", "plamo2", "minicpm3", "gemma3n", "mamba", "mamba2", "jamba", "falcon-h1", "olmo2", "olmoe",
        "deepseek2", "deepseek32", "hy_v4", "dots3note", "glm-dsa", "bitnet", "t5", "nemotron_h", "nemotron_h_moe",
        "granitehybrid", "minimax-01", "minimax-m2", "minimax-m3", "mistral4", "kimi-linear", "bailingmoe3", "kimi-k3",
        "glm5-next", "qwen3tts", "qwen4exp",
    )
)  # fmt: skip

_BLOCK = re.compile(r"blk\.(?P<index>\d+)\.(?P<part>.+)")
_Q = re.compile(r"attn_(q|gate)\.(weight|bias)")
_KV = re.compile(r"attn_[kv]\.(weight|bias)")
_QKV = re.compile(r"attn_qkv\.(weight|bias)")
_ATTENTION_OUT = "attn_output.weight"
_LINEAR = re.compile(r"ssm_(out|conv1d|alpha|beta|ba)\.weight|ssm_dt\.bias|ssm_a")
_WIDE = re.compile(r"ffn_(up|gate|gate_up)(_exps)?\.(weight|bias)|ffn_down(_exps)?\.weight")
_OUTPUT = re.compile(r"output\.(weight|bias)")
_FIRST = re.compile(r".*\.bias|attn_output\.weight|ffn_down(_exps)?\.weight|ssm_(out\.weight|a)")  # cut in rows


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of ``width`` elements that is cut on its own, ``count`` times in a row, in whole grains."""

    width: int
    grain: int = 1
    count: int = 1


def device_bytes(profile: ModelProfile, workload: Workload, shares: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the bytes of weights and of caches that each device holds, by its share."""
    slicer = _Slicer(profile, shares)
    weights = [0] * len(shares)
    for tensor in profile.tensors:
        for device, size in enumerate(slicer.tensor(tensor)):
            weights[device] += size
    caches = [0] * len(shares)
    for index, size in enumerate(layer_cache_bytes(profile, workload)):
        for device, part in enumerate(slicer.cache(index, size)):
            caches[device] += part
    return tuple(zip(weights, caches, strict=True))


def cut(width: int, grain: int, shares: Sequence[int], rotation: int) -> list[int]:
    """Return how much of ``width`` each device gets, in whole grains but for the last of the rotated order."""
    n = len(shares)
    bounds = [0.0]
    for position in range(n):
        bounds.append(f32(bounds[-1] + shares[(position + rotation) % n]))
    pieces, low = [0] * n, 0
    for position in range(n):
        high = width if position == n - 1 else int(f32(f32(width * bounds[position + 1]) / bounds[-1]))
        high -= high % grain if position < n - 1 else 0
        pieces[(position + rotation) % n] = high - low
        low = high
    return pieces


class _Slicer:
    """Cuts the tensors of one model by one list of shares."""

    def __init__(self, profile: ModelProfile, shares: Sequence[int]) -> None:
        self._profile = profile
        self._shares = shares
        self._types = {tensor.name: tensor.type for tensor in profile.tensors}
        self._rotations = list(_rotations(profile, len(shares)))

    def tensor(self, tensor: Tensor) -> list[int]:
        """Return each device's bytes of a tensor."""
        if tensor.name.startswith("token_embd.") and not self._profile.is_tied:
            return [0] * len(self._shares)  # the host's
        match = _BLOCK.fullmatch(tensor.name)
        block, part = (int(match["index"]), match["part"]) if match else (None, tensor.name)
        if match is None and not _OUTPUT.fullmatch(part):
            return [tensor.size_bytes if self._is_offloaded(part) else 0] * len(self._shares)
        axis = 0 if _FIRST.fullmatch(part) or len(tensor.shape) == 1 else 1
        segments = self._segments(block, part, tensor.shape[axis])
        if not segments:
            return [tensor.size_bytes] * len(self._shares)
        rotation = self._profile.n_layer % len(self._shares) if block is None else self._rotations[block]
        pieces = self._pieces(segments, rotation)
        return [tensor.size_bytes * piece // tensor.shape[axis] for piece in pieces]

    def cache(self, block: int, size_bytes: int) -> list[int]:
        """Return each device's bytes of a block's cache, which is cut by heads."""
        width = self._profile.blocks[block].k_width
        if not width:
            return [-(-size_bytes * share // sum(self._shares)) for share in self._shares]
        pieces = self._pieces([Segment(width, self._head_grain(block) // self._n_gqa(block))], self._rotations[block])
        return [size_bytes * piece // width for piece in pieces]

    @staticmethod
    def _is_offloaded(name: str) -> bool:
        return not name.startswith(("position_embd.", "token_types.", "token_embd_norm.", "per_layer_token_embd."))

    def _pieces(self, segments: Sequence[Segment], rotation: int) -> list[int]:
        total = [0] * len(self._shares)
        for segment in segments:
            for device, piece in enumerate(cut(segment.width, segment.grain, self._shares, rotation)):
                total[device] += piece * segment.count
        return total

    def _segments(self, block: int | None, part: str, width: int) -> list[Segment]:
        """Return how a tensor is cut; nothing when it is mirrored."""
        if block is None:
            return [Segment(width)]
        if _WIDE.fullmatch(part):
            return self._wide(block, part, width)
        if self._profile.blocks[block].state_width and (_QKV.fullmatch(part) or _LINEAR.fullmatch(part)):
            return [Segment(width)]
        return self._heads(block, part, width)

    def _heads(self, block: int, part: str, width: int) -> list[Segment]:
        """Return the cut of an attention tensor, by heads; nothing when it is none, or is mirrored."""
        grain = self._head_grain(block)
        if _Q.fullmatch(part) or part == _ATTENTION_OUT:
            return [Segment(width, grain)]
        if _KV.fullmatch(part):
            return [Segment(width, grain // self._n_gqa(block))]
        if _QKV.fullmatch(part):
            narrow = self._profile.blocks[block].k_width
            return [Segment(width - 2 * narrow, grain), Segment(narrow, grain // self._n_gqa(block), 2)]
        return []

    def _wide(self, block: int, part: str, width: int) -> list[Segment]:
        """Return the cut of a feed-forward tensor; some models keep gate and up in one tensor, named up."""
        grain = lcm(self._block_size(block, ("ffn_down.weight", "ffn_down_exps.weight")), KERNEL_WIDTH)
        is_fused = part.startswith("ffn_up.") and width == 2 * self._profile.n_ff
        return (
            [Segment(width // 2, grain, 2)] if is_fused or part.startswith("ffn_gate_up") else [Segment(width, grain)]
        )

    def _head_grain(self, block: int) -> int:
        """Return the width of the query heads that stay together: those that share a KV head, or more."""
        width = self._n_gqa(block) * self._profile.head_dim_k
        size = self._block_size(block, (_ATTENTION_OUT, "ssm_out.weight"))
        while size < KERNEL_WIDTH and size * len(self._shares) < width:
            size *= 2
        return lcm(width, size)

    def _n_gqa(self, block: int) -> int:
        return max(self._profile.n_head[block] // max(self._profile.n_head_kv[block], 1), 1)

    def _block_size(self, block: int, parts: Sequence[str]) -> int:
        """Return the block size of the quantisation of the first of these tensors that is there."""
        kinds = (self._types.get(f"blk.{block}.{part}") for part in parts)
        kind = next((each for each in kinds if each is not None), "F32")
        return int(GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0])


def _rotations(profile: ModelProfile, n_devices: int) -> Iterator[int]:
    """Yield by how much each block's order is rotated: how many blocks of its kind come before it."""
    seen: Counter[tuple[bool, bool]] = Counter()
    for block in profile.blocks:
        kind = block.state_width > 0, block.is_windowed
        yield seen[kind] % n_devices
        seen[kind] += 1
