"""A traced graph run for many chunks at once, with a backward pass for all of them.

Every number of chunks takes a trace of its own. Only the first that was met often is handed to a compiler: texts of
all lengths must not take a compilation each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler.bodies.adjoint import Compiler
from nldsl.compiler.bodies.body import Body
from nldsl.compiler.bodies.tracing import traced
from nldsl.compiler.transforms import transformed
from torch import Tensor, fx


@dataclass
class _Met:
    """A number of chunks, with the shapes of all else: how often it was met, and what is called once it is traced."""

    count: int = 0
    body: Body | None = None


class Mapped:
    """A graph -> its results for every chunk. patience: how often a number of chunks is mapped plainly before it is
    traced. compiler: as in `Body`."""

    def __init__(self, graph: fx.GraphModule, patience: int, compiler: Compiler | None = None) -> None:
        self.graph, self.patience, self.compiler = graph, patience, compiler
        self._met: dict[Any, _Met] = {}

    def __call__(self, inputs: Sequence[Tensor], axes: Sequence[int | None]) -> list[list[Tensor]]:
        """axes: the one of an input along which its chunks lie, None for none."""
        met = self._met.setdefault((*axes, *((x.shape, x.stride(), x.dtype) for x in inputs)), _Met())
        met.count += 1
        mapped = torch.vmap(lambda *x: self.graph.forward(*x), in_dims=tuple(axes))
        if met.body is None and met.count > self.patience and not transformed():
            met.body = Body(traced(mapped, inputs), {}, self.compiler)
            self.compiler = None
        results = mapped(*inputs) if met.body is None else met.body(inputs, False)
        return [list(chunk) for chunk in zip(*(x.unbind(0) for x in results), strict=True)]
