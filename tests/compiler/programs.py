"""Small compiled programs of the library to try things on, with nothing in them left at zero."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.module import CompiledModule
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

import nldsl

VOCAB, DIM = 11, 8
SMALL = {"dim": DIM, "heads": 2}
MODEL = SMALL | {"vocab": VOCAB, "depth": 1}

PROGRAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Hope": ("std.hope:Hope", MODEL | {"periods": [4, 8]}),
    "HopeAttention": ("std.hope:HopeAttention", MODEL | {"periods": [4, 8]}),
    "Titans": ("std.titans:Titans", MODEL | {"chunk": 4}),
    "TTT": ("std.ttt:TTT", MODEL | {"chunk": 4}),
    "Transformer": ("std.transformer:Transformer", MODEL),
    "SelfModifyingTitans": ("std.hope:SelfModifyingTitans", SMALL | {"chunk": 4}),
    "LMM": ("std.titans:LMM", SMALL | {"chunk": 4}),
    "TTTLinear": ("std.ttt:TTTLinear", SMALL | {"chunk": 4}),
    "DeltaNet": ("std.delta:DeltaNet", SMALL),
    "GatedDeltaNet": ("std.delta:GatedDeltaNet", SMALL),
    "Attention": ("std.transformer:Attention", SMALL | {"window": 3}),
}


def program(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> CompiledModule:
    path, hyper = PROGRAMS[name]
    return stirred(nldsl.compile(path, **hyper, dtype=dtype, **options))


def stirred(module: CompiledModule) -> CompiledModule:
    """The same module, its parameters moved a little, so that none of them is zero."""
    generator = torch.Generator().manual_seed(7)
    for value in module.parameters():
        value.data += 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
    return module


def given(module: CompiledModule, ticks: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Tokens or vectors, [batch, ticks] or [batch, ticks, dim]."""
    generator = torch.Generator().manual_seed(seed)
    if module.graph.tick.inputs[0].dtype == "int":
        return torch.randint(VOCAB, (batch, ticks), generator=generator)
    return torch.randn(batch, ticks, DIM, generator=generator, dtype=torch.float64).to(module.dtype)


def leaves(state: Any) -> dict[str, Tensor]:
    """The tensors of a state by their place in it."""
    return {keystr(path): x for path, x in tree_flatten_with_path(state)[0]}


def squares(module: CompiledModule, x: Tensor) -> list[Tensor]:
    """The gradient of the sum of all outputs' squares, by each parameter; zeros where there is none."""
    *outs, _ = module(x)
    total = torch.stack([(y**2).sum() for y in outs]).sum()
    parameters = list(module.parameters())
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def furthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to numbers beyond one."""
    gaps = [(a - b).abs() / b.abs().clamp(min=1) for a, b in zip(found, expected, strict=True)]
    return max(float(gap.max()) for gap in gaps if gap.numel())
