"""The library's optimizers against torch's own, as step-clock learns of one small model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nldsl.compiler.reference import Interpreter

import nldsl

MODEL = """
model Fit() over x: [3], t: [2] {{
  memory W = matrix(3, 2)
  y = W(x)
  loss = l2(y, t)
  learn * minimizing loss by {rule} every step
  return y
}}
"""

TORCH: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "gd(0.1)": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum(0.1, 0.9)": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov(0.1, 0.9)": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam(0.01)": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw(0.01, decay = 0.1)": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", TORCH)
def test_an_optimizer_is_torchs(rule: str) -> None:
    """Ten steps on fresh batches, to 1e-9 in float64. (momentum keeps the rate inside, which is the same while the rate
    is constant.)"""
    machine = Interpreter(nldsl.load_text(MODEL.format(rule=rule)))
    weight = machine.parameters["W.w"].detach().clone().requires_grad_()
    optimizer = TORCH[rule]([weight])
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        x = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
        t = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
        machine.step({"x": x, "t": t})
        optimizer.zero_grad()
        (0.5 * ((x @ weight - t) ** 2).sum(-1)).mean().backward()
        optimizer.step()
    assert torch.allclose(machine.parameters["W.w"], weight, rtol=1e-9, atol=1e-12)
