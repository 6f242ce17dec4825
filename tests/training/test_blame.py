"""Which memory, at which token, is no longer finite."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training.blame import all_finite, find

import nldsl

TEXT = """\
model Mine(vocab = 16, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M, N = matrix(dim)
  learn M : x -> x minimizing l2 by gd(0.01) every token
  learn N : x -> M(x) minimizing l2 by gd(0.01) every 2 tokens
  logits = N(x) + M(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""
BAD = 7


@pytest.fixture
def module() -> CompiledModule:
    """Byte 7 is so large that a step towards it is not finite."""
    module = nldsl.compile_text(TEXT)
    with torch.no_grad():
        dict(module.named_parameters())["x.embed.table"][BAD] = 1e30
    return module


def ids(*places: tuple[int, int]) -> torch.Tensor:
    found = torch.zeros(3, 40, dtype=torch.int64)
    for row, token in places:
        found[row, token] = BAD
    return found


@pytest.mark.parametrize("token", [0, 1, 17, 38, 39])
def test_the_fastest_memory_at_the_first_such_token(module: CompiledModule, token: int) -> None:
    found = find(module, ids((1, token)), None)
    assert found is not None
    assert (found.memory, found.row, found.token) == ("M", 1, token)
    assert str(found) == f"memory `M` (level {found.level}, every token) at token {token} of row 1"


def test_the_first_of_several_rows(module: CompiledModule) -> None:
    found = find(module, ids((0, 30), (2, 11), (1, 35)), None)
    assert found is not None
    assert (found.row, found.token) == (2, 11)


def test_from_a_state(module: CompiledModule) -> None:
    fine = ids()
    with torch.no_grad():
        _, state = module(fine)
    assert find(module, fine, state) is None
    found = find(module, ids((2, 5)), state)
    assert found is not None
    assert (found.memory, found.row, found.token) == ("M", 2, 5)


def test_a_loss_alone(module: CompiledModule) -> None:
    with torch.no_grad():
        dict(module.named_parameters())["logits.linear.w"][:] = torch.inf
    found = find(module, ids(), None)
    assert found is not None
    assert str(found) == "the loss at token 1 of row 0, while every memory is finite"


def test_finite() -> None:
    assert all_finite({})
    assert all_finite({"a": torch.zeros(2), "b": torch.tensor([True]), "c": torch.zeros(0)})
    assert not all_finite({"a": torch.zeros(2), "b": torch.tensor([1.0, torch.inf])})
