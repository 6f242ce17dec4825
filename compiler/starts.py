"""Where everything starts: draws parameters, and computes the start of each memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

from nldsl.graph import Leaf
from nldsl.parameters import Parameter

META = torch.device("meta")


def draw(
    name: str, leaf: Leaf, heads: int, seed: int, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """A leaf's start, [heads, *shape] or [*shape]. Each name has random numbers of its own, so that a change elsewhere
    in a text leaves them alone; a device has no part in them, and on the meta device there are none."""
    shape = tuple(map(int, (heads, *leaf.shape) if heads else leaf.shape))
    if device == META:
        return torch.empty(shape, dtype=dtype, device=device)
    return _drawn(name, leaf, shape, seed, dtype).to(device)


def _drawn(name: str, leaf: Leaf, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    kind, *numbers = leaf.init
    values = [float(n) for n in numbers]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    if kind == "normal":
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) * values[0]
    if kind == "uniform":
        low, high = values
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.full(shape, values[0], dtype=dtype)


def draw_all(
    parameters: Iterable[Parameter], seed: int, dtype: torch.dtype, device: torch.device | None = None
) -> dict[str, Tensor]:
    return {p.name: draw(p.name, p.leaf, p.heads, seed, dtype, device).requires_grad_() for p in parameters}
