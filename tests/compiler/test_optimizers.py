"""The optimizers of the library, as the compiled module has them: beside torch's own, beside their equations, and
beside the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from nldsl.compiler import compiled
from nldsl.compiler.reference import Interpreter
from torch import Tensor

import nldsl

# All kinds of weights: a matrix with heads, wide and tall matrices, a gain. None of its gradients is used.
WEIGHTS = """
optimizer turned(lr) over g {{
  u = -lr * g
  if rank(g) == 2 {{
    u = -lr * reshape(reshape(g, [shape(g, 1), shape(g, 0)]), [shape(g, 0), shape(g, 1)])
  }}
  return u
}}
model Weights() over x: [6] {{
  memory A[2] = matrix(3, 4)
  h = x |> split(2) |> A |> merge
  y = h |> rmsnorm |> linear(5) |> linear(12) |> linear(5)
  loss = sum(y^2)
  learn * minimizing loss {how}
  return y
}}
"""


def weights(how: str, dtype: torch.dtype) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    module = compiled(nldsl.load_text(WEIGHTS.format(how=how)), dtype=dtype)
    [optimizer] = module.optimizers()
    return list(module.parameters()), optimizer


def gradients(parameters: Iterable[Tensor], steps: int) -> list[list[Tensor]]:
    """Gradients that lean to one side, so that momenta have something to keep. Some lie in memory column by column."""
    generator = torch.Generator().manual_seed(0)
    means = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    found = []
    for step in range(steps):
        now = [m + torch.randn(m.shape, generator=generator, dtype=torch.float64) for m in means]
        found.append([g.mT.contiguous().mT if step % 3 == 2 and g.dim() > 1 else g for g in now])
    return found


def train(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: int) -> list[Tensor]:
    """How far each parameter moves in these steps."""
    before = [p.detach().clone() for p in parameters]
    for now in gradients(parameters, steps):
        for p, g in zip(parameters, now, strict=True):
            p.grad = g.to(p.dtype)
        optimizer.step()
    return [p.detach() - old for p, old in zip(parameters, before, strict=True)]


def apart(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest difference of two tensors, by their norms."""
    return max(
        float((a.detach() - b.detach()).norm() / b.detach().norm()) for a, b in zip(found, expected, strict=True)
    )


TORCH: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "gd(0.01)": lambda p: torch.optim.SGD(p, lr=0.01),
    "turned(0.01)": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum(0.01, 0.9)": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov(0.01, 0.9)": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam(0.001)": lambda p: torch.optim.Adam(p, lr=0.001),
    "adamw(0.001, decay = 0.1)": lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", TORCH)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_an_optimizer_is_torchs(rule: str, dtype: torch.dtype, tolerance: float) -> None:
    """A hundred steps. (momentum keeps the rate inside, which is the same while the rate is constant.) Torch's own is
    in float64 each time: in float32 its AdamW multiplies by a rounded 1 - lr decay, and is 2e-6 from itself by then."""
    parameters, optimizer = weights(f"by {rule} every step", dtype)
    theirs = [torch.nn.Parameter(p.detach().double()) for p in parameters]
    train(parameters, optimizer, 100)
    train(theirs, TORCH[rule](theirs), 100)
    assert apart([p.double() for p in parameters], theirs) < tolerance


# Muon, from the equations of its authors' code: weights are [out, in] there, and [in, out] here


def orthogonal(g: Tensor) -> Tensor:
    """X = G / (|G| + 1e-7), wide; five times X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X with A = X X^T."""
    x = g / (g.norm() + 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(w: Tensor, grads: Iterable[Tensor], lr: float, beta: float = 0.95) -> Tensor:
    """m <- lerp(m, g, 1 - beta), u = lerp(g, m, beta), w <- w - lr sqrt(max(1, out / in)) NS(u); a vector takes u."""
    m = torch.zeros_like(w)
    for g in grads:
        m = torch.lerp(m, g, 1 - beta)
        u = torch.lerp(g, m, beta)
        w = w - lr * (u if w.dim() == 1 else max(1.0, w.shape[0] / w.shape[1]) ** 0.5 * orthogonal(u))
    return w


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_muon_is_its_equations(dtype: torch.dtype, tolerance: float) -> None:
    """Thirty steps, in the same precision. Each head is a matrix of its own, and a gain takes the momentum itself."""
    parameters, optimizer = weights("by muon(0.01) every step", dtype)
    expected = []
    for p, *grads in zip(parameters, *gradients(parameters, 30), strict=True):
        now = [g.to(dtype) for g in grads]
        if p.dim() == 1:
            expected.append(muon(p.detach(), now, 0.01))
        elif p.dim() == 2:
            expected.append(muon(p.detach().T, [g.T for g in now], 0.01).T)
        else:
            heads = [muon(w.T, [g[h].T for g in now], 0.01).T for h, w in enumerate(p.detach())]
            expected.append(torch.stack(heads))
    train(parameters, optimizer, 30)
    assert apart(parameters, expected) < tolerance


def test_muon_is_torchs() -> None:
    """How far the matrices move in thirty steps. (torch orthogonalizes in bfloat16.)"""
    parameters, optimizer = weights("by muon(0.01) every step", torch.float64)
    theirs = [torch.nn.Parameter(p.detach().T.clone()) if p.dim() == 2 else p for p in parameters]
    matrices = [i for i, p in enumerate(parameters) if p.dim() == 2]
    other = torch.optim.Muon([theirs[i] for i in matrices], lr=0.01, weight_decay=0.0)
    before = [parameters[i].detach().clone() for i in matrices]
    for now in gradients(parameters, 30):
        for i, p in enumerate(parameters):
            p.grad = now[i]
        for i in matrices:
            theirs[i].grad = now[i].T
        optimizer.step()
        other.step()
    ours = [parameters[i] - w for i, w in zip(matrices, before, strict=True)]
    expected = [theirs[i].T - w for i, w in zip(matrices, before, strict=True)]
    assert apart(ours, expected) < 2e-2


# Whole steps beside the reference interpreter

ALL = """
optimizer drift(lr) over g, w {
  state before = 0
  u = w - before - lr * g
  before <- w
  return u
}
optimizer again(lr) over g {
  state before = 0
  u = -lr * (g + before)
  before <- g
  return u
}
optimizer normed(lr) over g = -lr * g / total_norm(g)
optimizer restarting(lr) over g {
  state s = 1 reset every 3 updates
  s <- 0.9 * s + g
  return -lr * s
}
optimizer unlearned(lr) over g: [n, m] {
  memory b = residual_mlp(m)
  return -lr * b(g)
}
optimizer deeper(lr) over g: [n, m] {
  memory b = residual_mlp(m) reset every 3 updates
  learn b : g -> 1 minimizing dot retaining decay(0.9) by momentum(0.01) every 2 updates
  return -lr * b(g)
}
optimizer halves(lr) over g: [n, m] {
  memory b[2] = residual_mlp(m / 2)
  learn b : split(g, 2) -> 1 minimizing dot by gd(0.1) every update
  return -lr * merge(b(split(g, 2)))
}
retention counted(keep) over w, u, start {
  state n = 0
  n <- n + 1
  return start + keep * (w - start) + u / n
}
model Small() over x: [4], t: [4] {
  memory Fast = mlp(4, expand = 1)
  memory W[2] = matrix(2)
  k = x |> linear(4)
  learn Fast : k -> t minimizing l2 by gd(0.1) every token
  y = Fast(k) + merge(W(split(x, 2)))
  loss = l2(y, t)
  LEARNS
  return y
}
"""

LEARNS = [
    "learn * minimizing loss by m3(0.1, slow_every = 2) every step",
    "learn * minimizing loss by deep_momentum(0.1) every step",
    "learn * minimizing loss by delta_momentum(0.1) every step",
    "learn * minimizing loss by muon(0.1) every step through 2 tokens",
    "learn * minimizing loss retaining decay(0.99) by adamw(0.01) every 2 steps",
    "learn * minimizing loss retaining sphere by gd(0.1 / (tick + 1)) every step",
    "learn * minimizing loss retaining counted(0.9) by momentum(0.1) every step",
    "learn * minimizing loss by drift(0.1) every step",
    "learn * minimizing loss by again(0.1) every step",
    "learn * minimizing loss by normed(0.1) every 2 steps",
    "learn * minimizing loss by restarting(0.1) every step",
    "learn * minimizing loss by unlearned(0.1) every step",
    "learn * minimizing loss by deeper(0.1) every step",
    "learn * minimizing loss by halves(0.1) every step",
    """learn W minimizing loss by m3(0.01, slow_every = 2) every 2 steps
       learn Fast minimizing loss by deep_momentum(0.1) every 3 steps
       learn * minimizing loss by nesterov(0.1) every step""",
    """learn W : split(x, 2) -> split(t, 2) minimizing l2 by adam(0.01) every 2 steps
       learn * minimizing loss by adam(0.01) every step""",
]


@pytest.mark.parametrize("learns", LEARNS)
def test_steps_are_those_of_the_reference(learns: str) -> None:
    """Seven steps, outer gradients through the writes of Fast included: the same parameters, to 1e-10."""
    graph = nldsl.load_text(ALL.replace("LEARNS", learns))
    reference, module = Interpreter(graph), compiled(graph, dtype=torch.float64)
    [optimizer] = module.optimizers()
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        x, t = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        loss, _ = reference.step({"x": x, "t": t})
        found, _ = module.backward(x, t)
        assert torch.allclose(found, loss, rtol=1e-10)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    for name, p in module.named_parameters():
        assert torch.allclose(p, reference.parameters[name], rtol=1e-10, atol=1e-10), name
