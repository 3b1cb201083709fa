"""The llama architecture in PyTorch, small, and its training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network; names as in GGUF's llama metadata."""

    vocab: int = 1024
    blocks: int = 8
    width: int = 192
    heads: int = 6
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Return the width of one attention head."""
        return self.width // self.heads


def rope_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (context, head_width / 2)."""
    frequencies = shape.rope_base ** (-torch.arange(0, shape.head_width, 2).double() / shape.head_width)
    angles = torch.outer(torch.arange(shape.context).double(), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs (2i, 2i + 1), which is what llama.cpp does for this architecture (LLAMA_ROPE_TYPE_NORM).

    x is (batch, heads, time, head_width); no permutation of the weights is needed when exporting.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[: x.shape[2]], sin[: x.shape[2]]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    """One transformer block; parameter names are GGUF's."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        kv_width = shape.kv_heads * shape.head_width
        self.shape = shape
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        x = x + self._attend(self.attn_norm(x), rope)
        y = self.ffn_norm(x)
        result: Tensor = x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return result

    def _attend(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, _ = x.shape
        heads = [
            projection(x).view(batch, length, -1, self.shape.head_width).transpose(1, 2)
            for projection in (self.attn_q, self.attn_k, self.attn_v)
        ]
        query, key, value = rotate(heads[0], *rope), rotate(heads[1], *rope), heads[2]
        group = self.shape.heads // self.shape.kv_heads
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.attn_output(mixed.transpose(1, 2).flatten(2))
        return result


class Llama(nn.Module):
    """The whole network: ids (batch, time) to logits (batch, time, vocab)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.output = nn.Linear(shape.width, shape.vocab, bias=False)
        self.rope = rope_table(shape)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.03 / math.sqrt(2 * shape.blocks) if residual else 0.03)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of every position."""
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, self.rope)
        logits: Tensor = self.output(self.output_norm(x))
        return logits


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train: rows of ``length`` tokens, and at the end rows of the whole context."""

    steps: int = 360
    tokens_per_step: int = 2048
    length: int = 512
    long_from: float = 0.88
    warmup: int = 40


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz steps (Keller Jordan, 2024), in 32 bits.

    torch.optim.Muon computes them in bfloat16, which CPUs without that type do a hundred times slower.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix; matrices of one shape go through the arithmetic together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                by_shape.setdefault(weight.shape, []).append(weight)
            for weights in by_shape.values():
                self._update(weights, group["lr"], group["momentum"])

    def _update(self, weights: list[nn.Parameter], lr: float, momentum: float) -> None:
        directions = []
        for weight in weights:
            assert weight.grad is not None
            average = self.state[weight].setdefault("average", torch.zeros_like(weight))
            average.lerp_(weight.grad, 1 - momentum)
            directions.append(weight.grad.lerp(average, momentum))
        scale = 0.2 * math.sqrt(max(weights[0].shape))  # the size of AdamW's updates, so that one rate fits both
        for weight, update in zip(weights, orthogonal(torch.stack(directions)), strict=True):
            weight.mul_(1 - 0.01 * lr).add_(update, alpha=-lr * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return about the nearest orthogonal matrix of each of (count, rows, columns)."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x if wide is matrices else x.mT
    return result


def optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for everything else."""
    matrices = [weight for weight in model.blk.parameters() if weight.ndim == 2]
    taken = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in taken]
    return [
        Muon(matrices, lr=4e-3),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(model: Llama, stream: Tensor, schedule: Schedule, report: Callable[[str], None]) -> float:
    """Train on random windows of ``stream`` (ids, 1-D) and return the loss averaged over the last 50 steps."""
    parts = optimizers(model)
    rates = [torch.optim.lr_scheduler.LambdaLR(part, lambda step: _rate(step, schedule)) for part in parts]
    losses: list[float] = []
    began = time.monotonic()
    for step in range(schedule.steps):
        length = schedule.length if step < schedule.long_from * schedule.steps else model.shape.context
        starts = torch.randint(len(stream) - length - 1, (schedule.tokens_per_step // length, 1))
        rows = stream[starts + torch.arange(length + 1)]
        loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part, rate in zip(parts, rates, strict=True):
            part.step()
            rate.step()
            part.zero_grad()
        losses.append(loss.item())
        if step % 25 == 24:
            report(f"step {step + 1}: loss {sum(losses[-25:]) / 25:.3f}, {time.monotonic() - began:.0f} s")
    return sum(losses[-50:]) / len(losses[-50:])


def _rate(step: int, schedule: Schedule) -> float:
    """Rise for ``warmup`` steps, then fall in a straight line to 2 %."""
    return min((step + 1) / schedule.warmup, 0.02 + 0.98 * (1 - step / schedule.steps))
