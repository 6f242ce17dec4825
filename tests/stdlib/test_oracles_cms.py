"""The oracle of the continuum memory system against hand-written gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from .deep import GATES, D, H, Pairs, T, close, draw, draw_pairs, mlp_pull, mlp_start, number
from .oracles.cms import cms
from .oracles.nets import matrix, mlp, residual_mlp


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


@pytest.fixture
def pairs() -> Pairs:
    return draw_pairs()


def squares(targets: Tensor) -> Callable[[Tensor, int], Tensor]:
    """1/2 ||y - target of the token||^2."""
    return lambda y, t: 0.5 * ((y - targets[t]) ** 2).sum()


def test_cms_on_hand_worked_tokens() -> None:
    x = torch.tensor([[2.0], [3.0], [1.0]], dtype=torch.float64)
    rate, ones = torch.full((3,), 0.1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    y, state = cms([matrix], [{"w": ones[:1]}], x, [2], [rate], squares(ones))
    # Errors 1 and 2 on inputs 2 and 3: the weight falls by 0.1 (2 + 6); the third token's step is still to come.
    close(y[:, 0], torch.tensor([2.0, 3.0, 0.2], dtype=torch.float64))
    close(state["level0"]["w"][0, 0], number(0.2))


@pytest.mark.parametrize("periods", [(2, 3), (3, 1), (4, 4), (1, 9)])
def test_cms_chain_by_hand_written_backpropagation(pairs: Pairs, periods: tuple[int, int]) -> None:
    x, _, targets = pairs
    levels, rates = [mlp_start(), mlp_start()], [GATES, 0.3 * GATES.flip(0)]
    y, state = cms([mlp, residual_mlp], levels, x, periods, rates, squares(targets))
    sums = [{name: torch.zeros_like(w) for name, w in level.items()} for level in levels]
    for t in range(T):
        middle = mlp(levels[0], x[t])
        close(y[t], residual_mlp(levels[1], middle))
        error = y[t] - targets[t]
        below = mlp_pull(levels[1], middle, error)
        # The error at the input of the second block: straight through the residual, and back through its MLP.
        slope = torch.autograd.functional.vjp(lambda m: mlp(levels[1], m), middle, error)[1]
        grads = [mlp_pull(levels[0], x[t], error + slope), below]
        for i, period in enumerate(periods):
            sums[i] = {n: total + rates[i][t] * grads[i][n] for n, total in sums[i].items()}
            if (t + 1) % period == 0:
                levels[i] = {n: w - sums[i][n] for n, w in levels[i].items()}
                sums[i] = {n: torch.zeros_like(w) for n, w in levels[i].items()}
    close(state["level0"]["up"], levels[0]["up"])


def test_cms_without_steps_is_a_static_network(pairs: Pairs) -> None:
    x, _, targets = pairs
    starts, still = [mlp_start(), mlp_start()], [torch.zeros(T, dtype=torch.float64)] * 2
    y, _ = cms([mlp, mlp], starts, x, [1, 2], still, squares(targets))
    close(y, mlp(starts[1], mlp(starts[0], x)))
    y, _ = cms([mlp, mlp], starts, x, [1, 2], still, squares(targets), variant="independent")
    close(y, mlp(starts[1], x) + mlp(starts[0], x))


def test_cms_independent_levels_share_the_error_of_their_sum(pairs: Pairs) -> None:
    x, _, targets = pairs
    levels, mixing = [draw(D, D), draw(D, D)], draw(2)
    blocks, starts = [matrix, matrix], [{"w": w} for w in levels]

    def aggregate(parts: list[Tensor]) -> Tensor:
        return mixing[0] * parts[0] + mixing[1] * parts[1]

    options = {"variant": "independent", "aggregate": aggregate}
    y, _ = cms(blocks, starts, x, [2, 3], [0.3 * GATES] * 2, squares(targets), **options)
    for t in range(T):
        close(y[t], x[t] @ (mixing[0] * levels[0] + mixing[1] * levels[1]))
        for i, period in enumerate([2, 3]):
            if (t + 1) % period == 0:
                seen = slice(t + 1 - period, t + 1)
                step = mixing[i] * (0.3 * GATES[seen, None] * x[seen]).T @ (y[seen] - targets[seen])
                levels[i] = levels[i] - step


@pytest.mark.parametrize("periods, context", [([2, 3], 4), ([1, 6, 2], 2), ([1, 1, 5], 5)])
def test_cms_nested_starts_every_context_afresh(pairs: Pairs, periods: list[int], context: int) -> None:
    x, _, targets = pairs
    starts, still = [mlp_start() for _ in periods], [0 * GATES for _ in periods[1:]]
    blocks = [mlp for _ in periods]
    y, state = cms(blocks, starts, x, periods, [GATES, *still], squares(targets), variant="nested")
    # A context is ceil(slower / own) periods: 2 steps of 2 tokens for (2, 3); the next slower level sets its length.
    for first in range(0, T, context):
        here = slice(first, first + context)
        rates = [GATES[here], *(r[here] for r in still)]
        close(y[here], cms(blocks, starts, x[here], periods, rates, squares(targets[here]))[0])
    close(state["start0"]["up"], starts[0]["up"])


def test_cms_nested_learns_the_start_through_the_writes(pairs: Pairs) -> None:
    x, _, targets = pairs
    fast, slow, rates = mlp_start(), mlp_start(), [0.5 * GATES, 0.2 * GATES]
    run = (x[:4], [2, 4], [r[:4] for r in rates], squares(targets))
    _, state = cms([mlp, mlp], [fast, slow], *run, variant="nested", start_rates=[0.1, 0.0])

    def context_loss(up: Tensor) -> float:
        y, _ = cms([mlp, mlp], [{**fast, "up": up}, slow], *run)
        return 0.5 * ((y - targets[:4]) ** 2).sum().item()

    direction, h = draw(D, H), 1e-5
    slope = (context_loss(fast["up"] + h * direction) - context_loss(fast["up"] - h * direction)) / (2 * h)
    moved = state["start0"]["up"] - fast["up"]
    assert (moved * direction).sum().item() == pytest.approx(-0.1 * slope, rel=1e-6)
    close(state["level0"]["up"], state["start0"]["up"])
    close(state["start1"]["up"], slow["up"])
