"""Stages of a kind share their bodies, and what needs no state is done before the loop."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.bodies.hoisting import hoisted
from nldsl.compiler.bodies.mapping import Mapped
from nldsl.compiler.module import CompiledModule
from torch.fx.experimental.proxy_tensor import make_fx

import nldsl


def model(name: str, depth: int, heads: int = 2) -> CompiledModule:
    module = nldsl.compile(name, dim=8, heads=heads, depth=depth, vocab=7, dtype=torch.float64)
    module.runner.steps.patience = 0
    return module


@pytest.mark.parametrize("name", ["std.titans:Titans", "std.delta:GatedDeltaTransformer", "std.ttt:DeepTTT"])
def test_deeper_models_have_no_more_bodies(name: str) -> None:
    ids = torch.randint(7, (2, 70), generator=torch.Generator().manual_seed(0))
    counts = []
    for depth in (1, 3):
        module = model(name, depth)
        module.loss(ids).backward()
        counts.append(len(module.runner.steps.bodies))
        plain = model(name, depth)
        plain.runner.steps.patience = 10**9
        torch.testing.assert_close(module.loss(ids), plain.loss(ids), rtol=1e-12, atol=1e-12)
    assert counts[0] == counts[1]


def test_what_differs_is_not_shared() -> None:
    text = """
    block B(dim = 4) over x: [dim] -> [dim] {
      memory M = matrix(dim)
      memory N = matrix(dim)
      learn M : x -> x minimizing l2 by gd(0.1) every token
      y = M(x)
      learn N : y -> y minimizing l2 by gd(RATE) every token
      return N(y)
    }"""
    x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(0))
    for rate, bodies in (("0.1", 2), ("0.2", 4)):
        module = nldsl.compile_text(text.replace("RATE", rate))
        module.runner.steps.patience = 0
        module(x)
        assert len(module.runner.steps.bodies) == bodies  # of a whole chunk, and of what is left


def test_drawn_numbers_are_not_shared() -> None:
    """Starts that are drawn, and no parameters, are numbers in a traced body."""
    text = """
    block B(dim = 4) over x: [dim] -> [dim] {
      memory M = mlp(dim) from data(start) reset every 4 tokens
      memory N = mlp(dim) from data(start) reset every 4 tokens
      learn M : x -> x minimizing l2 by gd(0.1) every token hold state for 2 tokens
      y = M(x)
      learn N : y -> y minimizing l2 by gd(0.1) every token hold state for 2 tokens
      return N(y)
    }"""
    x = torch.randn(1, 24, 4, generator=torch.Generator().manual_seed(0))
    traced, plain = nldsl.compile_text(text), nldsl.compile_text(text)
    traced.runner.steps.patience = 0
    torch.testing.assert_close(traced(x)[0], plain(x)[0])


def test_a_body_in_two_parts() -> None:
    def body(x: torch.Tensor, state: torch.Tensor) -> list[torch.Tensor]:
        return [torch.exp(x @ x.mT) @ state]

    chunks = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    state = torch.ones(3, 2)
    parts = hoisted(make_fx(body)(chunks[0], state), [0])
    assert parts is not None
    for x, results in zip(chunks, Mapped(parts.early, 0)([chunks], [0]), strict=True):
        assert torch.allclose(parts.late(x, state, *results)[0], body(x, state)[0])
    assert hoisted(make_fx(lambda x, s: [x.mT @ s])(chunks[0], state), [0]) is None
