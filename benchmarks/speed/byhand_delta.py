"""DeltaNet and Gated DeltaNet around fla-core's naive chunk forms: projections, convolutions, gates and norms by hand,
those of `std.delta`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed import peers
from benchmarks.speed.byhand import Conv, Map, RMSNorm, heads_of, merged, unit
from benchmarks.speed.jobs import DIM, HEADS, Job, block_job

D = DIM // HEADS


class Mixed(nn.Module):
    """linear, convolution of 4, silu."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.conv = Map(DIM, DIM), Conv(DIM)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(self.map(x)))


class Retain(nn.Module):
    """The logarithm of Mamba-2's gate, [batch, ticks, heads]."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(DIM, HEADS) * DIM**-0.5)
        self.dt, self.a = nn.Parameter(torch.full((1, HEADS), -4.5)), nn.Parameter(torch.ones(HEADS))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.exp(self.a) * F.softplus(x @ self.w + self.dt)


class DeltaNet(nn.Module):
    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk, self.rule = chunk, peers.naive("delta_rule").delta_rule_chunkwise
        self.q, self.k, self.v, self.beta = Mixed(), Mixed(), Mixed(), Map(DIM, HEADS)
        self.norm, self.out = RMSNorm(D), Map(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = unit(heads_of(self.q(x))), unit(heads_of(self.k(x))), heads_of(self.v(x))
        beta = torch.sigmoid(self.beta(x)).transpose(1, 2)
        y, _ = self.rule(q * D**0.5, k, v, beta, self.chunk)  # it scales q by D^-0.5
        answer: Tensor = self.out(merged(self.norm(y)))
        return answer


class GatedDeltaNet(nn.Module):
    """The rule takes [batch, ticks, heads, d]."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk, self.rule = chunk, peers.naive("gated_delta_rule").naive_chunk_gated_delta_rule
        self.q, self.k, self.v = Mixed(), Mixed(), Mixed()
        self.retain, self.beta = Retain(), Map(DIM, HEADS)
        self.norm = RMSNorm(D)
        self.gate, self.out = Map(DIM, DIM), Map(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).reshape(*x.shape[:-1], HEADS, D) for f in (self.q, self.k, self.v))
        y, _ = self.rule(unit(q), unit(k), v, self.retain(x), torch.sigmoid(self.beta(x)), self.chunk, scale=1.0)
        answer: Tensor = self.out(F.silu(self.gate(x)) * self.norm(y.to(x.dtype)).flatten(2))
        return answer


def deltanet(length: int, chunk: int) -> Job:
    return block_job(DeltaNet(chunk), length)


def gated_deltanet(length: int, chunk: int) -> Job:
    return block_job(GatedDeltaNet(chunk), length)
