"""The known shapes: sizes of real models, and tiny ones for each kind of architecture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model; names follow GGUF's metadata, ``*_of`` give the value of one block."""

    arch: str
    blocks: int
    width: int
    vocab: int
    context: int = 2048
    feed_forward: int | Sequence[int] = 0
    heads: int | Sequence[int] = 0
    kv_heads: int | Sequence[int] = 0
    key_length: int = 0
    """Width of one head; 0 means width / heads."""
    tied: bool = False
    """The embedding is the output matrix too."""
    rope_base: float = 10000.0
    rope_factors: bool = False
    experts: int = 0
    experts_used: int = 0
    sliding_window: int = 0
    state: int = 0
    """Recurrent state per channel (mamba); 0 means attention."""
    about: str = ""

    def heads_of(self, block: int) -> int:
        """Return the attention heads of a block."""
        return self.heads if isinstance(self.heads, int) else self.heads[block]

    def kv_heads_of(self, block: int) -> int:
        """Return the key/value heads of a block; fewer than heads means grouped-query attention."""
        return self.kv_heads if isinstance(self.kv_heads, int) else self.kv_heads[block]

    def feed_forward_of(self, block: int) -> int:
        """Return the feed-forward width of a block."""
        return self.feed_forward if isinstance(self.feed_forward, int) else self.feed_forward[block]

    @property
    def head_width(self) -> int:
        """Return the width of one head."""
        return self.key_length or self.width // max(self.heads_of(0), 1)


SHAPES: dict[str, Shape] = {
    "tinyllama-1.1b": Shape(
        *("llama", 22, 2048, 32000),
        feed_forward=5632, heads=32, kv_heads=4, about="TinyLlama 1.1B: grouped-query attention, 32k vocabulary",
    ),
    "llama-3.2-1b": Shape(
        *("llama", 16, 2048, 128256, 131072),
        feed_forward=8192, heads=32, kv_heads=8, tied=True, rope_base=500000.0, rope_factors=True,
        about="Llama 3.2 1B: tied embeddings, 128k vocabulary",
    ),
    "llama-3.2-3b": Shape(
        *("llama", 28, 3072, 128256, 131072),
        feed_forward=8192, heads=24, kv_heads=8, tied=True, rope_base=500000.0, rope_factors=True,
        about="Llama 3.2 3B: tensors larger than 10 MiB, which workers cache",
    ),
    "llama-2-7b": Shape(
        *("llama", 32, 4096, 32000, 4096),
        feed_forward=11008, heads=32, kv_heads=32, about="Llama 2 7B: every head has keys and values of its own",
    ),
    "llama-2-7b-quarter": Shape(
        *("llama", 32, 1024, 32000, 4096),
        feed_forward=2752, heads=8, kv_heads=8, about="Llama 2 7B at a quarter of its width, with all its blocks",
    ),
    "vicuna-13b": Shape(
        *("llama", 40, 5120, 32000, 4096),
        feed_forward=13824, heads=40, kv_heads=40, about="Vicuna 13B v1.5: the sizes of Llama 2 13B",
    ),
    "demo-like": Shape(
        *("llama", 8, 192, 1024),
        feed_forward=512, heads=6, kv_heads=2, about="the sizes of models/demo.gguf",
    ),
    "mixtral-tiny": Shape(
        *("llama", 8, 512, 4096),
        feed_forward=1024, heads=8, kv_heads=2, experts=8, experts_used=2, about="a mixture of 8 experts, 2 at work",
    ),
    "qwen2-tiny": Shape(
        *("qwen2", 12, 512, 8192, 4096),
        feed_forward=1536, heads=8, kv_heads=2, tied=True, rope_base=1e6, about="tied embeddings, biases on q, k and v",
    ),
    "gemma2-tiny": Shape(
        *("gemma2", 8, 512, 16384, 8192),
        feed_forward=2048, heads=4, kv_heads=2, key_length=256, tied=True, sliding_window=1024,
        about="heads wider than width / heads, every other block with a sliding window",
    ),
    "phi3-tiny": Shape(
        *("phi3", 8, 768, 8192, 4096),
        feed_forward=2048, heads=12, kv_heads=12, about="fused q, k and v, no grouping",
    ),
    "mamba-tiny": Shape(*("mamba", 8, 512, 8192), tied=True, state=16, about="recurrent state instead of attention"),
    "deci-tiny": Shape(
        *("deci", 8, 512, 8192),
        feed_forward=[1024, 1536, 2048, 1024, 512, 2048, 1536, 1024],
        heads=8, kv_heads=[8, 4, 2, 8, 1, 2, 4, 8], about="another head count and feed-forward in every block",
    ),
    "big-vocab": Shape(
        *("llama", 4, 512, 151936),
        feed_forward=1024, heads=8, kv_heads=2, about="an output matrix larger than all blocks together",
    ),
}  # fmt: skip

SMALLEST_VOCAB = 512
"""Bytes, letters and the special pieces alone need so many."""


def resize(shape: Shape, layers: int | None, vocab: int | None) -> Shape:
    """Return the shape with other counts; per-block lists are repeated to the new length."""
    blocks = layers or shape.blocks
    changed: dict[str, Any] = {
        name: [value[i % len(value)] for i in range(blocks)]
        for name in ("feed_forward", "heads", "kv_heads")
        if not isinstance(value := getattr(shape, name), int)
    }
    return replace(shape, blocks=blocks, vocab=vocab or shape.vocab, **changed)
