"""Where everything starts: draws parameters, and computes the start of each memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

from nldsl.graph import Leaf
from nldsl.parameters import Parameter


def draw(name: str, leaf: Leaf, heads: int, seed: int, dtype: torch.dtype) -> Tensor:
    """A leaf's start, [heads, *shape] or [*shape]. Each name has random numbers of its own, so that a change elsewhere
    in a text leaves them alone."""
    shape = tuple(map(int, (heads, *leaf.shape) if heads else leaf.shape))
    kind, *numbers = leaf.init
    values = [float(n) for n in numbers]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    if kind == "normal":
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) * values[0]
    if kind == "uniform":
        low, high = values
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.full(shape, values[0], dtype=dtype)


def draw_all(parameters: Iterable[Parameter], seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {p.name: draw(p.name, p.leaf, p.heads, seed, dtype).requires_grad_() for p in parameters}
