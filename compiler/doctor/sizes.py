"""How large a memory is, against its start or against a matrix that was freshly drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from nldsl.compiler.doctor.probe import Weights
from torch import Tensor

from nldsl.graph import Memory

NEAR_ZERO = 0.1  # of the fresh size: what starts below is measured by the fresh size


@dataclass(frozen=True)
class Scale:
    """What a memory's size is divided by. size: [heads or 1]. fresh: whether it is that of matrices [n, m] drawn by
    normal(n^-0.5), and of vectors and numbers with a mean square of 1; else it is the memory's own start."""

    size: Tensor
    fresh: bool

    def of(self, weights: Weights) -> float:
        """The median over sequences and heads; not a number if any of them is none."""
        relative = norm(weights) / self.size
        return float(relative.median()) if bool(relative.isfinite().all()) else math.nan


def scale_of(memory: Memory, start: Weights) -> Scale:
    fresh = math.sqrt(sum(_fresh(tuple(map(int, leaf.shape))) for leaf in memory.leaves))
    own = norm(start)[0]
    if float(own.min()) < NEAR_ZERO * fresh:
        return Scale(torch.full_like(own, fresh), True)
    return Scale(own, False)


def norm(weights: Mapping[str, Tensor]) -> Tensor:
    """The norm of all leaves together, [batch, heads or 1]."""
    squares = [w.detach().double().square().flatten(3).sum(3)[:, 0] for w in weights.values()]
    return torch.stack(squares).sum(0).sqrt()


def _fresh(shape: tuple[int, ...]) -> float:
    """The squared norm that a leaf of this shape has when it is drawn: each of n * m entries has a variance of 1/n."""
    return math.prod(shape) / (shape[-2] if len(shape) > 1 else 1)
