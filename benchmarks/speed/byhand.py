"""Plain PyTorch by hand: the parts that blocks share, and the Transformer block with `scaled_dot_product_attention`.

Parameters stand in the order of the program's, maps as [in, out], so that a test can hand over one's to the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.jobs import DIM, HEADS, Job, block_job


class Map(nn.Module):
    """x [..., n] -> [..., out], no bias."""

    def __init__(self, n: int, out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(n, out) * n**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


class Conv(nn.Module):
    """Each channel of x [batch, ticks, dim] with its own last `width` ticks, as a sum of shifted copies: on a CPU more
    than twice as fast as a grouped `conv1d`."""

    def __init__(self, dim: int, width: int = 4) -> None:
        super().__init__()
        self.kernel = nn.Parameter((2 * torch.rand(width, dim) - 1) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        width, ticks = len(self.kernel), x.shape[1]
        padded = F.pad(x, (0, 0, width - 1, 0))
        y = self.kernel[0] * padded[:, :ticks]
        for i in range(1, width):
            y = y + self.kernel[i] * padded[:, i : i + ticks]
        return y


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain, 1e-6)


class LayerNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, 1e-6)


def heads_of(x: Tensor) -> Tensor:
    """[batch, ticks, dim] -> [batch, heads, ticks, d]."""
    return x.reshape(*x.shape[:-1], HEADS, -1).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def angles(positions: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """cos and sin [ticks, d / 2] of rotary positions."""
    angle = positions[:, None].float() * 10000 ** -(torch.arange(d // 2) / (d // 2))
    return angle.cos(), angle.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class TransformerBlock(nn.Module):
    """Attention and a network of two layers, both normalised before and added. rotary: with rotary positions."""

    def __init__(self, rotary: bool, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.rotary = rotary
        self.norm = norm(DIM)
        self.q, self.k, self.v, self.out = (Map(DIM, DIM) for _ in range(4))
        self.norm2 = norm(DIM)
        self.up, self.down = Map(DIM, 4 * DIM), Map(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (heads_of(f(h)) for f in (self.q, self.k, self.v))
        if self.rotary:
            cos, sin = angles(torch.arange(x.shape[1]), q.shape[-1])
            q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        x = x + self.out(merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        y: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + y


def transformer(length: int) -> Job:
    return block_job(TransformerBlock(rotary=True, norm=RMSNorm), length)


def softmax(length: int) -> Job:
    """The yardstick of a run: no positions, and the norm that eager torch has in one piece."""
    return block_job(TransformerBlock(rotary=False, norm=LayerNorm), length)
