"""Which tensors a shape needs, in file order, with their sizes (see load_arch_tensors in llama.cpp's src/models)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from rpc_wrapper.synthetic.shapes import Shape


class Fill(Enum):
    """What a tensor holds."""

    WEIGHT = "small random numbers, quantised"
    EXACT = "small random numbers, never quantised"
    ONES = "ones"
    ZEROS = "zeros"
    DECAY = "minus one: a mamba state that fades"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, its sizes as numpy has them (GGUF's reversed: the last one is a row) and its content."""

    name: str
    dims: tuple[int, ...]
    fill: Fill = Fill.WEIGHT


def tensors(shape: Shape) -> Iterator[TensorSpec]:
    """Yield every tensor of the model."""
    yield TensorSpec("token_embd.weight", (shape.vocab, shape.width))
    if shape.rope_factors:
        yield TensorSpec("rope_freqs.weight", (shape.head_width // 2,), Fill.ONES)
    for block in range(shape.blocks):
        parts = _mamba_block(shape) if shape.state else _attention_block(shape, block)
        for part in parts:
            yield TensorSpec(f"blk.{block}.{part.name}", part.dims, part.fill)
    yield TensorSpec("output_norm.weight", (shape.width,), Fill.ONES)
    if not shape.tied:
        yield TensorSpec("output.weight", (shape.vocab, shape.width))


def _attention_block(shape: Shape, block: int) -> Iterator[TensorSpec]:
    q_width = shape.heads_of(block) * shape.head_width
    kv_width = shape.kv_heads_of(block) * shape.head_width
    yield TensorSpec("attn_norm.weight", (shape.width,), Fill.ONES)
    if shape.arch == "phi3":
        yield TensorSpec("attn_qkv.weight", (q_width + 2 * kv_width, shape.width))
    else:
        for name, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
            yield TensorSpec(f"attn_{name}.weight", (width, shape.width))
            if shape.arch == "qwen2":
                yield TensorSpec(f"attn_{name}.bias", (width,), Fill.ZEROS)
    yield TensorSpec("attn_output.weight", (shape.width, q_width))
    if shape.arch == "gemma2":
        yield TensorSpec("post_attention_norm.weight", (shape.width,), Fill.ONES)
        yield TensorSpec("post_ffw_norm.weight", (shape.width,), Fill.ONES)
    yield TensorSpec("ffn_norm.weight", (shape.width,), Fill.ONES)
    yield from _experts(shape) if shape.experts else _feed_forward(shape, shape.feed_forward_of(block))


def _feed_forward(shape: Shape, hidden: int) -> Iterator[TensorSpec]:
    if shape.arch == "phi3":  # gate and up are one matrix
        yield TensorSpec("ffn_up.weight", (2 * hidden, shape.width))
    else:
        yield TensorSpec("ffn_gate.weight", (hidden, shape.width))
        yield TensorSpec("ffn_up.weight", (hidden, shape.width))
    yield TensorSpec("ffn_down.weight", (shape.width, hidden))


def _experts(shape: Shape) -> Iterator[TensorSpec]:
    hidden = shape.feed_forward_of(0)
    yield TensorSpec("ffn_gate_inp.weight", (shape.experts, shape.width), Fill.EXACT)
    yield TensorSpec("ffn_gate_exps.weight", (shape.experts, hidden, shape.width))
    yield TensorSpec("ffn_up_exps.weight", (shape.experts, hidden, shape.width))
    yield TensorSpec("ffn_down_exps.weight", (shape.experts, shape.width, hidden))


def _mamba_block(shape: Shape) -> Iterator[TensorSpec]:
    inner, rank = 2 * shape.width, shape.width // 16
    yield TensorSpec("attn_norm.weight", (shape.width,), Fill.ONES)
    yield TensorSpec("ssm_in.weight", (2 * inner, shape.width))
    yield TensorSpec("ssm_conv1d.weight", (inner, 4), Fill.EXACT)
    yield TensorSpec("ssm_conv1d.bias", (inner,), Fill.ZEROS)
    yield TensorSpec("ssm_x.weight", (rank + 2 * shape.state, inner))
    yield TensorSpec("ssm_dt.weight", (inner, rank))
    yield TensorSpec("ssm_dt.bias", (inner,), Fill.ZEROS)
    yield TensorSpec("ssm_a", (inner, shape.state), Fill.DECAY)
    yield TensorSpec("ssm_d", (inner,), Fill.ONES)
    yield TensorSpec("ssm_out.weight", (shape.width, inner))
