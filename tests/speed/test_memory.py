"""The counter of memory, on steps whose peaks are known."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmarks.speed.memory import peak

N = 1000
ONE = 4 * N  # bytes of a vector


def test_what_is_let_go_is_given_back() -> None:
    x = torch.randn(N)

    def step() -> None:
        y = x + 1
        for _ in range(5):
            y = y + 1

    assert peak(step) == 2 * ONE  # the old one goes when the new one is there


def test_views_weights_and_answers_in_place_cost_nothing() -> None:
    x = torch.randn(N)
    assert peak(lambda: x.view(10, 100).t().mul_(2).add_(1)) == 0


def test_what_is_kept_for_backward_is_alive() -> None:
    x = torch.randn(N, requires_grad=True)

    def step(sines: int) -> None:
        x.grad = None
        y = x
        for _ in range(sines):
            y = y.sin()
        torch.autograd.backward(y.sum())

    # The sines but the last, whose value nobody needs, and on the way back a gradient, a cosine and their product.
    grown = [peak(partial(step, sines)) for sines in (4, 14)]
    assert grown[1] - grown[0] == 10 * ONE


def test_a_checkpoint_is_worth_what_it_saves() -> None:
    x = torch.randn(N, requires_grad=True)

    def body(x: Tensor) -> Tensor:
        for _ in range(10):
            x = x.sin()
        return x

    def step(saving: bool) -> None:
        y = x
        for _ in range(4):
            y = checkpoint(body, y, use_reentrant=False) if saving else body(y)
        torch.autograd.backward(y.sum())

    assert peak(partial(step, True)) < 0.45 * peak(partial(step, False))


def test_addresses_are_used_again() -> None:
    """A freed storage's place may hold the next one."""

    def step() -> None:
        for _ in range(100):
            torch.empty(N).add(1)

    assert peak(step) == 2 * ONE
