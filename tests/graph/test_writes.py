"""When levels write."""

from __future__ import annotations

import nldsl
from nldsl.graph import Period
from nldsl.writes import Pace, joined, paces

TEXT = """\
model Mine(vocab = 8, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  state s: [dim] = 0
  s <- 0.5 * s + x
  memory A = attention(window = 3)
  learn A : x -> x every 2 tokens
  memory F = matrix(dim)
  memory G = matrix(dim)
  logits = A(x) + s + F(x) + G(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn F minimizing loss by momentum(0.1) every 4 tokens
  learn G : x -> s minimizing l2 by gd(0.1) every 4 tokens
  learn * minimizing loss by adamw(0.1) every 3 steps
  return logits
}
"""


def test_each_level_has_a_pace() -> None:
    found = paces(nldsl.load_text(TEXT))
    assert [p.period for p in found] == [
        Period(2), Period(1), Period(4), Period(4), Period(3, "step"), Period(3, "step")
    ]  # fmt: skip
    assert [p.levels for p in joined(found)] == [(1,), (2,), (3,), (4,), (5, 6)]


def test_a_write_from_the_loss_waits_for_the_next_token() -> None:
    local, loss = Pace((1,), Period(4), 0), Pace((1,), Period(4), 1)
    assert [local.writes(n) for n in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
    assert [loss.writes(n) for n in (0, 4, 5, 8, 9)] == [0, 0, 1, 1, 2]
    assert [loss.last(n) for n in (0, 4, 5, 8, 9)] == [0, 0, 4, 4, 8]


def test_steps_and_what_never_writes() -> None:
    assert [Pace((1,), Period(3, "step"), 0).last(100, n) for n in (0, 2, 3, 8)] == [0, 0, 3, 6]
    assert Pace((1,), Period(1, "never"), 0).writes(100, 100) == 0
