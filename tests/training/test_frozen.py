"""A program without its learns on the token clock: what in-context learning is measured against."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.reference import Interpreter
from nldsl.compiler.training.frozen import frozen, learns_in_context

import nldsl
from nldsl.graph import LevelGraph
from nldsl.parameters import learned_parameters

TEXT = """\
model Mine(vocab = 8, dim = 4, rate = 0.5) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = matrix(dim)
  state s: [dim] = 0
  s <- 0.5 * s + x
  learn M : x -> s minimizing l2 by momentum(rate) every token
  memory A = attention(window = 3)
  learn A : x -> x every token
  memory F = matrix(dim)
  logits = M(x) + A(x) + s + F(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn F minimizing loss by gd(rate) every 4 tokens
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""
IDS = torch.tensor([[1, 5, 2, 2, 7, 0, 3, 1, 6, 4]])


def losses(graph: LevelGraph) -> list[float]:
    with torch.no_grad():
        return [float(loss) for loss in Interpreter(graph).losses(IDS)[0][0]]


def test_it_reads_as_if_nothing_were_ever_learned() -> None:
    still = losses(nldsl.load_text(TEXT, rate=0))
    assert losses(frozen(nldsl.load_text(TEXT))) == pytest.approx(still, abs=1e-12)
    assert losses(nldsl.load_text(TEXT)) != pytest.approx(still, abs=1e-3)


def test_what_reads_on_by_a_closed_form_stays_and_so_do_the_parameters() -> None:
    graph = nldsl.load_text(TEXT)
    plain = frozen(graph)
    assert [o.memories for o in plain.objectives][:1] == [("A",)]
    assert len(plain.objectives) == 2
    assert set(learned_parameters(plain)) == set(learned_parameters(graph))
    assert learns_in_context(graph)
    assert not learns_in_context(plain)
    assert frozen(plain) == plain
