"""Optimizers against their oracles, MAML as two levels, and back-propagation as memories of local errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from torch import Tensor

import nldsl

from .comparing import TOLERANCE, Named, Row, agree, differences, distance, stirred, vectors
from .oracles import backprop, maml, optimizers

# Optimizers: of a matrix W whose gradient at each tick is what is given

FED = """
block Fed(n, m) over g: [n, m] -> [n, m] {{
  memory W = matrix(n, m)
  learn W minimizing sum(W * g) by {rule} every token
  return W
}}

block Keyed(n, m) over key: [n], error: [m] -> [n, m] {{
  memory W = matrix(n, m)
  learn W : key -> error minimizing dot by {rule} every token
  return W
}}

model Stepped(n, m) over g: [n, m] -> [n, m] {{
  memory W = matrix(n, m)
  loss = sum(W * g)
  learn * minimizing loss by {rule} every step
  return W
}}
"""

RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gd(0.3)": partial(optimizers.gd, lr=0.3),
    "momentum(0.3, 0.8)": partial(optimizers.momentum, lr=0.3, alpha=0.8),
    "nesterov(0.3, 0.8)": partial(optimizers.nesterov, lr=0.3, mu=0.8),
    "delta_momentum(0.05, 0.9)": partial(optimizers.delta_momentum, lr=0.05, alpha=0.9),
    "delta_momentum(0.05, 0.9, 0.1)": partial(optimizers.delta_momentum, lr=0.05, alpha=0.9, erase=0.1),
    "adam(0.1)": partial(optimizers.adam, lr=0.1),
    "adam(0.1, 0.8, 0.95, 1e-3)": partial(optimizers.adam, lr=0.1, beta1=0.8, beta2=0.95, eps=1e-3),
    "adamw(0.1)": partial(optimizers.adamw, lr=0.1),
    "adamw(0.1, decay = 0.3)": partial(optimizers.adamw, lr=0.1, weight_decay=0.3),
    "muon(0.1)": partial(optimizers.muon, lr=0.1),
    "muon(0.1, 0.8, 3)": partial(optimizers.muon, lr=0.1, beta=0.8, rounds=3),
    "m3(0.1, 0.9, 0.99, 0.7, 0.5, slow_every = 3)": partial(
        optimizers.m3, lr=0.1, beta1=0.9, beta2=0.99, beta3=0.7, alpha=0.5, slow_every=3
    ),
    "m3(0.1, 1, 1, 1, 0.2, slow_every = 2, eps = 1e-3, rounds = 2)": partial(
        optimizers.m3, lr=0.1, beta1=1, beta2=1, beta3=1, alpha=0.2, slow_every=2, rounds=2, eps=1e-3
    ),
}
SHAPES = [(4, 3), (2, 5), (3, 3)]


def fed(rule: str) -> Row:
    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        weights = RULES[rule](x["g"], w["W.w"])
        return weights, {"W.w": weights[-1]}

    return Row("Fed", oracle, {"g": vectors}, text=FED.format(rule=rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_an_optimizer_is_its_oracle(rule: str, n: int, m: int) -> None:
    agree(differences(fed(rule), 7, seed=n, n=n, m=m))


@pytest.mark.parametrize("rule", RULES)
def test_also_on_the_step_clock(rule: str) -> None:
    """One tick of one sequence is a step: the mean over both is the gradient that is given."""
    module = stirred(nldsl.compile_text(FED.format(rule=rule), "Stepped", n=2, m=3, dtype=torch.float64))
    [optimizer] = module.optimizers()
    [weight] = module.parameters()
    g = vectors(torch.Generator().manual_seed(0), (8, 2, 3))
    expected = RULES[rule](g, weight.detach().clone())
    for now, after in zip(g, expected, strict=True):
        optimizer.zero_grad()
        module.backward(now[None, None])
        optimizer.step()
        assert distance(weight, after) <= TOLERANCE


def test_deep_momentum() -> None:
    """The value of every gradient is 1, to be answered with a large dot product, and the answer is a direction to
    descend: the signs that make of eq 50 a momentum."""

    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        up, down = (w[f"W.w.deep_momentum.b.{name}"] for name in ("up", "down"))
        weights = optimizers.deep_momentum(x["g"], w["W.w"], up, down, 0.01, 0.8, loss_sign=-1, step_sign=-0.3)
        return weights, {"W.w": weights[-1]}

    row = Row("Fed", oracle, {"g": vectors}, text=FED.format(rule="deep_momentum(0.3, 0.8, 0.01)"))
    for n, m in SHAPES:
        agree(differences(row, 7, n=n, m=m))


def test_delta_gradient_descent() -> None:
    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        g = -x["key"][:, :, None] * x["error"][:, None, :]
        weights = optimizers.dgd(g, x["key"], w["W.w"], 0.6)
        return weights, {"W.w": weights[-1]}

    row = Row("Keyed", oracle, {"key": vectors, "error": vectors}, text=FED.format(rule="dgd(0.6)"))
    for n, m in SHAPES:
        agree(differences(row, 7, n=n, m=m))


# MAML: the start learns from what became of it

LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")


def regression(w: Named, pairs: tuple[Tensor, Tensor]) -> Tensor:
    x, t = pairs
    h = torch.relu(torch.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])
    return 0.5 * (h @ w["w3"] + w["b3"] - t).square().sum()


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_maml_learns_the_start(rounds: int, first_order: bool) -> None:
    shots, tasks, ticks = 4, 3, 7
    hyper: dict[str, Any] = {"shots": shots, "rounds": rounds, "first_order": first_order}
    sizes = {"d": 2, "hidden": 5, "lr": 0.1, "outer_lr": 0.5}
    module = stirred(nldsl.compile("std.maml:MAMLRegression", dtype=torch.float64, **sizes, **hyper))
    random = torch.Generator().manual_seed(0)
    x, t = vectors(random, (tasks, ticks, 2)), vectors(random, (tasks, ticks, 1))
    start = {name: dict(module.named_parameters())[f"y.maml.F.{name}"] for name in LAYERS}
    pairs = [((a[:shots], b[:shots]), (a[shots:], b[shots:])) for a, b in zip(x, t, strict=True)]
    before = {name: w.detach().clone() for name, w in start.items()}
    total, slopes = maml.maml(regression, before, pairs, 0.1 / shots, rounds, first_order=first_order)

    [optimizer] = module.optimizers()
    loss, _ = module.backward(x, t)
    optimizer.step()
    ticks_in_all = tasks * ticks
    assert distance(loss, total / ticks_in_all) <= TOLERANCE
    for name, w in start.items():
        assert distance(w, before[name] - 0.5 * slopes[name] / ticks_in_all) <= TOLERANCE, name


# Back-propagation (eqs 8-9, 29-31): layers that learn from the loss, and layers that learn their local errors

LAYERED = """
{kind} Layered() over x: [3], t: [2] -> [2] {{
  memory A = matrix(3, 4)
  memory B = matrix(4, 5)
  memory C = matrix(5, 2)
  a = tanh(A(x))
  b = tanh(B(a))
  y = C(b)
  {learning}
  return y
}}
"""
FROM_LOSS = """
  loss = sum((y - t)^4)
  learn A, B, C minimizing loss by gd(0.1) {clock}
"""
OF_ERRORS = """
  of_y = 4 * (y - t)^3
  of_b = (of_y @ transpose(C)) * (1 - b^2)
  of_a = (of_b @ transpose(B)) * (1 - a^2)
  learn A : x -> -of_a minimizing dot by gd(0.1) {clock}
  learn B : a -> -of_b minimizing dot by gd(0.1) {clock}
  learn C : b -> -of_y minimizing dot by gd(0.1) {clock}
"""
STARTS = "  learn * minimizing loss by gd(0.1) every step\n"
WINDOW = 5
ON_TOKENS = {"from the loss": ("model", FROM_LOSS + STARTS), "of errors": ("block", OF_ERRORS)}
ON_STEPS = {"from the loss": ("model", FROM_LOSS), "of errors": ("model", OF_ERRORS)}
WAYS = [backprop.backprop_step, backprop.memory_step]
Way = Callable[..., list[Tensor]]


def layered(kind: str, learning: str, clock: str) -> tuple[CompiledModule, Tensor, Tensor]:
    """A module and a text for it, of two windows and one token more: a write from the loss is seen one token later."""
    text = LAYERED.format(kind=kind, learning=learning.format(clock=clock))
    module = stirred(nldsl.compile_text(text, dtype=torch.float64))
    random = torch.Generator().manual_seed(1)
    ticks = 2 * WINDOW + 1
    return module, vectors(random, (1, ticks, 3)), vectors(random, (1, ticks, 2))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ON_TOKENS)
def test_backpropagation_on_the_token_clock(name: str, way: Way) -> None:
    """The sum over a window, twice; the second starts where the first led."""
    module, x, t = layered(*ON_TOKENS[name], f"every {WINDOW} tokens")
    expected = [p.detach().clone() for p in module.parameters()]
    for first, last in pairwise(range(0, 2 * WINDOW + 1, WINDOW)):
        expected = way(expected, x[0, first:last], quartic(t[0, first:last]), 0.1)
    _, state = module(x, t)
    found = module.weights(state)
    for layer, w in zip("ABC", expected, strict=True):
        assert distance(found[f"{layer}.w"][0], w) <= TOLERANCE, layer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ON_STEPS)
def test_backpropagation_on_the_step_clock(name: str, way: Way) -> None:
    """The mean over the batch."""
    module, x, t = layered(*ON_STEPS[name], "every step")
    start = [p.detach().clone() for p in module.parameters()]
    module.backward(x, t)
    for optimizer in module.optimizers():
        optimizer.step()
    expected = way(start, x[0], quartic(t[0]), 0.1 / x.shape[1])
    for found, w in zip(module.parameters(), expected, strict=True):
        assert distance(found, w) <= TOLERANCE


def quartic(t: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: (y - t).pow(4).sum()
