"""In training, what learns from the loss does so by the graph that reading has left: as if segments were run again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nldsl.compiler import live, replays
from nldsl.compiler.module import CompiledModule
from torch.utils._pytree import keystr, tree_flatten_with_path

import nldsl

RESETS = """
model Restarts(vocab = 7, dim = 4) over ids: int {
  memory F = mlp(dim) reset every 8 tokens
  x      = ids |> embed(vocab, dim)
  y      = x + F(x)
  logits = y |> linear(vocab)
  loss   = cross_entropy(logits, next(ids))
  learn F minimizing loss by gd(0.1) every 4 tokens detached
  learn * minimizing loss by gd(0.1) every step
  return logits
}"""


def hope(**options: Any) -> CompiledModule:
    return nldsl.compile(
        "std.hope:Hope", vocab=11, dim=8, depth=2, heads=2, chunk=4, periods=[4, 8], dtype=torch.float64, **options
    )


def ids(ticks: int) -> torch.Tensor:
    return torch.randint(11, (2, ticks), generator=torch.Generator().manual_seed(0))


def learned(module: CompiledModule, *pieces: torch.Tensor) -> list[torch.Tensor]:
    """The losses, the state and the gradients of a text in pieces."""
    found, state = [], None
    for piece in pieces:
        loss, state = module.backward(piece, state=state)
        found += [loss]
    return [*found, *in_order(state), *(p.grad for p in module.parameters() if p.grad is not None)]


def in_order(state: Any) -> list[torch.Tensor]:
    """The tensors of a state, by name."""
    return [x for _, x in sorted(tree_flatten_with_path(state)[0], key=lambda item: keystr(item[0]))]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ticks before which segments were run again."""
    ticks: list[int] = []
    run_again = replays.replayed

    def counted(runner: Any, opening: Any, number: int, *others: Any) -> Any:
        ticks.append(number)
        return run_again(runner, opening, number, *others)

    monkeypatch.setattr(replays, "replayed", counted)
    return ticks


@pytest.mark.parametrize("patience", [0, 10**9], ids=["traced", "plain"])
@pytest.mark.parametrize("pieces", [(21,), (10, 11)], ids=str)
def test_it_is_what_running_again_gives(
    pieces: tuple[int, ...], patience: int, replayed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, again = hope(), hope()
    module.runner.steps.patience = again.runner.steps.patience = patience
    text = ids(21).split(pieces, dim=1)
    found = learned(module, *text)
    within = len(replayed)
    monkeypatch.setattr(live, "begun", lambda *given: None)
    expected = learned(again, *text)
    assert len(replayed) - within == 5
    assert within == len(pieces) - 1  # the segment that a piece left open
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_without_gradients_segments_are_run_again(replayed: list[int]) -> None:
    module, trained = hope(), hope()
    with torch.no_grad():
        losses, _, state = module.losses(ids(21))
    assert replayed == [4, 8, 12, 16, 20]
    with_gradients, _, after = trained.losses(ids(21))
    assert len(replayed) == 5
    torch.testing.assert_close(losses, with_gradients.detach(), rtol=1e-10, atol=1e-12)
    for a, b in zip(in_order(state), in_order(after), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-12)


def test_what_restarts_inside_is_run_again(replayed: list[int]) -> None:
    nldsl.compile_text(RESETS).loss(ids(17) % 7).backward()
    assert replayed == [4, 8, 12, 16]
