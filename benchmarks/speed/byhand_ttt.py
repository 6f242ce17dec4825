"""TTT-MLP by hand, in the manner of the official code: the dual form within a mini-batch, a scan over mini-batches
which is checkpointed in groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from benchmarks.speed.byhand import LayerNorm, Map, angles, heads_of, merged, rotated
from benchmarks.speed.jobs import DIM, HEADS, Job, block_job

D = DIM // HEADS
GROUP = 16  # mini-batches between two checkpoints
RATE = 0.1 / D
EPS = 1e-6

Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # w1, b1, w2, b2


def ttt_mlp(length: int, chunk: int) -> Job:
    return block_job(TTTMLP(chunk), length)


class Rate(nn.Module):
    """The step of every token and head, [batch, heads, ticks]."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(DIM, HEADS) * DIM**-0.5), nn.Parameter(torch.zeros(1, HEADS))

    def forward(self, x: Tensor) -> Tensor:
        return RATE * torch.sigmoid(x @ self.w + self.b).transpose(1, 2)


class Rule(nn.Module):
    """A scan over mini-batches of q, k, v [batch, heads, chunk, d] and rate [batch, heads, chunk]."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(0.02 * torch.randn(HEADS, D, 4 * D)), nn.Parameter(torch.zeros(HEADS, 1, 4 * D))
        self.w2, self.b2 = nn.Parameter(0.02 * torch.randn(HEADS, 4 * D, D)), nn.Parameter(torch.zeros(HEADS, 1, D))
        self.gain, self.bias = nn.Parameter(torch.ones(HEADS, D)), nn.Parameter(torch.zeros(HEADS, D))
        self.share = nn.Parameter(torch.zeros(chunk))

    def forward(self, minibatches: list[tuple[Tensor, ...]]) -> Tensor:
        batch = len(minibatches[0][0])
        w1, b1, w2, b2 = (w.expand(batch, *w.shape) for w in (self.w1, self.b1, self.w2, self.b2))
        weights: Weights = (w1, b1, w2, b2)
        answers: list[Tensor] = []
        for first in range(0, len(minibatches), GROUP):
            group = minibatches[first : first + GROUP]
            weights, own = checkpoint(self.scan, weights, group, use_reentrant=False)
            answers += own
        return torch.cat(answers, dim=2)

    def scan(self, weights: Weights, minibatches: list[tuple[Tensor, ...]]) -> tuple[Weights, list[Tensor]]:
        share = torch.relu(1 / torch.arange(1, len(self.share) + 1) + self.share)
        gain, bias = self.gain[:, None], self.bias[:, None]
        answers = []
        for q, k, v, rate in minibatches:
            weights, y = minibatch(weights, q, k, v, rate, share, gain, bias)
            answers.append(y)
        return weights, answers


class TTTMLP(nn.Module):
    """x [batch, ticks, DIM] -> the same; ticks is a multiple of the chunk."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.q, self.k, self.v = (Map(DIM, DIM) for _ in range(3))
        self.rate, self.rule = Rate(), Rule(chunk)
        self.norm, self.out = LayerNorm(DIM), Map(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = angles(torch.arange(x.shape[1]) % self.chunk, D)
        q, k = (rotated(heads_of(f(x)), cos, sin) for f in (self.q, self.k))
        streams = (q, k, heads_of(self.v(x)), self.rate(x))
        minibatches = list(zip(*(torch.split(stream, self.chunk, dim=2) for stream in streams), strict=True))
        y: Tensor = self.out(self.norm(merged(self.rule(minibatches))))
        return y


def minibatch(
    weights: Weights, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, share: Tensor, gain: Tensor, bias: Tensor
) -> tuple[Weights, Tensor]:
    """(weights after, answers). q, k, v [batch, heads, chunk, d]; rate [batch, heads, chunk]; share [chunk]."""
    w1, b1, w2, b2 = weights
    z1 = k @ w1 + b1
    x2 = F.gelu(z1, approximate="tanh")
    r2 = error(x2 @ w2 + b2, v - k, gain, bias)
    r1 = (r2 @ w2.transpose(-1, -2)) * slope(z1)

    step = torch.tril(share[:, None] * rate[..., None, :])  # [.., reading tick, written tick]
    z1q = q @ w1 + b1 - (step * (q @ k.transpose(-1, -2)) + step) @ r1
    x2q = F.gelu(z1q, approximate="tanh")
    z2q = x2q @ w2 + b2 - (step * (x2q @ x2.transpose(-1, -2)) + step) @ r2

    last = step[..., -1, :, None]
    after = (
        w1 - (last * k).transpose(-1, -2) @ r1,
        b1 - (last * r1).sum(-2, keepdim=True),
        w2 - (last * x2).transpose(-1, -2) @ r2,
        b2 - (last * r2).sum(-2, keepdim=True),
    )
    return after, q + normed(z2q)[0] * gain + bias


def normed(z: Tensor) -> tuple[Tensor, Tensor]:
    """z at mean 0 and variance 1, and the deviation it had."""
    centred = z - z.mean(-1, keepdim=True)
    deviation = torch.sqrt(centred.square().mean(-1, keepdim=True) + EPS)
    return centred / deviation, deviation


def error(z: Tensor, target: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """The gradient of 1/2 |gain norm(z) + bias - target|^2 by z."""
    shape, deviation = normed(z)
    g = gain * (gain * shape + bias - target)
    return (g - g.mean(-1, keepdim=True) - shape * (g * shape).mean(-1, keepdim=True)) / deviation


def slope(z: Tensor) -> Tensor:
    """The derivative of the tanh form of gelu."""
    tanh = torch.tanh(0.79788456 * z * (1 + 0.044715 * z * z))
    return 0.5 * z * ((1 - tanh * tanh) * (0.79788456 + 0.1070322243 * z * z)) + 0.5 * (1 + tanh)
