"""Bodies that are met often are traced: flat graphs of torch operations that compute what the bodies compute."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.steps import Step
from torch._ops import OpOverload

import nldsl
from compiler.programs import furthest, given, program, squares, stirred
from compiler.test_module import near, same

TOLERANCE = 1e-12

# Restarts, conditions and windows: what a body does depends on the number of its tick and on values.
CLAUSES = """\
optimizer nested(lr) over g: [n, m] {
  memory b = matrix(m)
  state s = 0 reset every 3 updates
  s <- 0.5 * s + g
  learn b : g -> s minimizing l2 retaining decay(0.9) by gd(0.01) every update
  return -lr * b(s)
}

block Clauses(dim = 8) over x: [dim] -> [dim] {
  memory M = mlp(dim, expand = 1) reset every 6 tokens
  memory N = matrix(dim) reset when sum(x) > 3
  state s = 0
  s <- 0.9 * s + window_mean(mean(M(x))) every 2 tokens
  y = M(x) + N(x) + s
  learn M : x -> y minimizing huber(1) retaining decay(0.99) by nested(0.1) every 2 tokens
  learn N : x -> data(N(y)) minimizing l2 weighted sigmoid(s) by gd(0.1) every token when mean(x) > 0
  return y
}
"""


@functools.cache  # tracing takes seconds
def both(name: str) -> tuple[CompiledModule, CompiledModule]:
    """A module whose bodies are traced when they are first met, and one whose bodies never are."""
    made = []
    for _ in range(2):
        text = name == "Clauses"
        made.append(stirred(nldsl.compile_text(CLAUSES, dtype=torch.float64)) if text else program(name))
    traced, plain = made
    traced.runner.steps.patience, plain.runner.steps.patience = 0, 10**9
    return traced, plain


def bodies(module: CompiledModule) -> list[Step]:
    return list(module.runner.steps.bodies.values())


def graphs(module: CompiledModule) -> Iterator[torch.fx.GraphModule]:
    for body in bodies(module):
        assert body.graph is not None
        yield body.graph


@pytest.mark.parametrize(
    ("name", "ticks"),
    [("DeltaNet", 7), ("GatedDeltaNet", 7), ("LMM", 9), ("TTTLinear", 9), ("SelfModifyingTitans", 8), ("Hope", 5),
     ("Clauses", 13)],
)  # fmt: skip
def test_traced_bodies_compute_what_they_were_traced_from(name: str, ticks: int) -> None:
    """Outputs, the state and all gradients; a second run makes nothing new."""
    traced, plain = both(name)
    x = given(plain, ticks)
    (expected, after), slopes = plain(x), squares(plain, x)
    assert all(body.graph is None for body in bodies(plain))
    for _ in range(2):
        y, state = traced(x)
        assert same(y, expected) and near(state, after)
        assert furthest(squares(traced, x), slopes) <= TOLERANCE
    found = list(graphs(traced))
    assert found
    traced(x)
    assert len(bodies(traced)) == len(found)
    for graph in found:
        calls = [n.target for n in graph.graph.nodes if n.op not in ("placeholder", "output", "get_attr")]
        assert calls
        for target in calls:
            assert isinstance(target, OpOverload) or target is operator.getitem, target
            assert "functorch" not in str(target) and not str(target).startswith("higher_order")
        assert "functorch" not in graph.code and "grad" not in graph.code.replace("set_grad", "")


def test_a_longer_text_needs_no_further_bodies() -> None:
    for name, ticks in (("LMM", 8), ("Clauses", 12)):
        traced, plain = both(name)
        x = given(plain, 3 * ticks)
        traced(x[:, : 2 * ticks])
        before = len(bodies(traced))
        y, _ = traced(x)
        assert same(y, plain(x)[0])
        assert len(bodies(traced)) == before


def test_a_body_is_traced_once_it_was_met_often() -> None:
    module = program("SelfModifyingTitans")
    x = given(module, 4 * 12)
    with torch.no_grad():
        module(x[:, : 4 * 3])
        assert all(body.graph is None for body in bodies(module))
        module(x)
    assert all(body.graph is not None for body in bodies(module))


def test_traced_bodies_serve_any_rows() -> None:
    """A batch of another size has bodies of its own; so have rows that go on alone."""
    traced, plain = both("LMM")
    x = given(plain, 9, batch=3)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 6:] = False
    with torch.no_grad():
        for rows in (slice(0, 1), slice(0, 3), slice(1, 3)):
            y, state = traced(x[rows], mask=mask[rows])
            expected, after = plain(x[rows], mask=mask[rows])
            assert same(y, expected) and near(state, after)


def test_traced_bodies_go_on_from_a_state() -> None:
    for name in ("LMM", "Clauses"):
        traced, plain = both(name)
        x = given(plain, 14)
        expected, after = plain(x)
        first, state = traced(x[:, :6])
        second, state = traced(x[:, 6:], state)
        assert same(torch.cat([first, second], 1), expected) and near(state, after)


def test_frozen_parameters_stay_frozen() -> None:
    traced, _ = both("GatedDeltaNet")
    x = given(traced, 5)
    for value in traced.parameters():
        value.requires_grad_(False)
    assert not traced(x)[0].requires_grad
    for value in traced.parameters():
        value.requires_grad_()
    assert traced(x)[0].requires_grad


DRAWN = """\
block Drawn(dim = 3) over x: [dim] -> [dim] {
  memory M = matrix(dim)
  memory N = matrix(dim) from M reset every 4 tokens
  learn N : x -> x minimizing l2 by gd(0.1) every token
  return N(x) {more}
}
"""


@pytest.mark.parametrize("more", ["", "+ M(x)"])
def test_numbers_that_a_traced_body_is_the_first_to_ask_for_are_drawn_once(more: str) -> None:
    text = DRAWN.replace("{more}", more)
    traced, plain = (nldsl.compile_text(text, dtype=torch.float64) for _ in range(2))
    traced.runner.steps.patience = 0
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        assert same(traced(x)[0], plain(x)[0])
    targets = {str(node.target) for graph in graphs(traced) for node in graph.graph.nodes}
    assert not any("randn" in target for target in targets)


HELD = """\
model Held(vocab = 11, dim = 6) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = matrix(dim) from zeros reset when sum(x) > 1
  memory N = matrix(dim)
  y = M(x)
  learn M minimizing loss by gd(0.2) every 2 tokens hold state for 4 tokens
  learn N : y -> x minimizing l2 by gd(0.1) every token
  logits = x + y + N(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
"""


def test_holds_begin_in_traced_bodies_wherever_their_learn_stands() -> None:
    """The learn is no part of the body in which its memory opens, and yet decides what the number of a tick means."""
    traced, plain = (stirred(nldsl.compile_text(HELD, dtype=torch.float64)) for _ in range(2))
    traced.runner.steps.patience = 0
    ids = torch.randint(11, (2, 13), generator=torch.Generator().manual_seed(0))
    assert same(traced(ids)[0], plain(ids)[0])
