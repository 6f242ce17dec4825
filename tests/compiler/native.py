"""What tests of kernels for inductor have in common: tensors in all layouts, and how near numbers have to be."""

from __future__ import annotations

import shutil

import pytest
import torch
from nldsl.compiler.bodies import native
from nldsl.compiler.bodies.kernels import Kernels
from torch import Tensor

NEEDED = [
    pytest.mark.skipif(not native.AT_HAND, reason="the kernels are for CPUs with AVX-512"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler"),
]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def across(x: Tensor) -> Tensor:
    """The same numbers, column by column."""
    return x.mT.contiguous().mT


def inside(x: Tensor) -> Tensor:
    """The same numbers within a larger tensor."""
    return torch.nn.functional.pad(x, (3, 5, 2, 1))[..., 2:-1, 3:-5]


def strewn(x: Tensor) -> Tensor:
    """The same numbers, none beside another."""
    return torch.stack([x, -x], -1)[..., 0]


LAYOUTS = (Tensor.contiguous, across, inside, strewn)


def near(found: Tensor, wanted: Tensor) -> None:
    exact = EXACT[found.dtype]
    most = float(wanted.abs().max()) if wanted.numel() else 0.0
    torch.testing.assert_close(found.double(), wanted, rtol=exact, atol=exact * most)


class Noted(Kernels):
    """It notes how often an operator was chosen."""

    def __init__(self, operator: torch._ops.OpOverload) -> None:
        self.operator, self.count = operator, 0

    def __call__(self, graph: torch.fx.Graph) -> None:
        super().__call__(graph)
        self.count += len(graph.find_nodes(op="call_function", target=self.operator))

    def uuid(self) -> None:
        return None  # not kept from one run to the next
