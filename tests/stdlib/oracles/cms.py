"""Continuum memory system (Nested Learning §7.1): MLP blocks that learn from one loss, each at its own period."""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from .nets import Net, Params, State, mix, zeros_like

Loss = Callable[[Tensor, int], Tensor]
Aggregate = Callable[[list[Tensor]], Tensor]
Forward = Callable[[Sequence[Params]], Tensor]
Variant = Literal["sequential", "nested", "independent"]


def cms(
    blocks: Sequence[Net],
    starts: Sequence[Params],
    x: Tensor,
    periods: Sequence[int],
    rates: Sequence[Tensor],
    loss: Loss,
    *,
    variant: Variant = "sequential",
    aggregate: Aggregate | None = None,
    start_rates: Sequence[float | Tensor] | None = None,
) -> tuple[Tensor, State]:
    """Run x [T, d] through the blocks; block l takes one step after every periods[l] tokens (eq 71).

    rates[l] [T] is the step of each token; loss(y [d_out], t) -> scalar. The gradient of token t is taken in the pass
    that answered it, by backpropagation through all blocks (eq 70), at the weights of that time: the block's own are
    constant inside its period, those of faster blocks may have moved. A step is the sum of rate * gradient over the C
    tokens of the period (eq 71 prints C + 1) and is seen from the next token on; a ragged last period never writes.

    sequential (eq 73): the chain blocks[0], blocks[1], ..; starts are data (learned by whoever calls), no reset.
    independent (eq 74): y = aggregate([block(x) for each block]), by default the sum; otherwise as sequential.
    nested (eq 72): the chain; a block goes back to its start after ceil(P / p) of its steps, where p is its period and
        P the next larger one (the slowest is never reset). With `start_rates`, the start itself first takes one step
        down the gradient of the summed loss of the tokens since the last reset, through all writes in between; that is
        the slower level learning the initialisation of the faster one. Without, starts stay as given.

    Returns y [T, d_out] and {"level0", ..} with {"start0", ..}, the weights and starts after the last token.
    """
    starts = [_tracked(start) for start in starts]
    levels, pending = list(starts), [zeros_like(start) for start in starts]
    resets = _reset_periods(periods) if variant == "nested" else [0] * len(blocks)
    contexts: list[list[Tensor]] = [[] for _ in blocks]
    outputs = []
    for t in range(len(x)):
        answer = _forward(blocks, x[t], variant, aggregate)
        outputs.append(answer(levels))
        grads = _gradients(answer, loss, t, levels)
        pending = [mix((1.0, sums), (rate[t], g)) for sums, rate, g in zip(pending, rates, grads, strict=True)]
        for level, period in enumerate(periods):
            contexts[level].append(loss(outputs[-1], t))
            if (t + 1) % period == 0:
                levels[level] = mix((1.0, levels[level]), (-1.0, pending[level]))
                pending[level] = zeros_like(pending[level])
        due = [level for level, reset in enumerate(resets) if reset and (t + 1) % reset == 0]
        if start_rates is not None:
            moved = {i: _meta_step(starts[i], contexts[i], start_rates[i]) for i in due}
            starts = [moved.get(i, start) for i, start in enumerate(starts)]
        for level in due:
            levels[level], contexts[level] = starts[level], []
    named = {f"level{i}": weights for i, weights in enumerate(levels)}
    return torch.stack(outputs), {**named, **{f"start{i}": start for i, start in enumerate(starts)}}


def _forward(blocks: Sequence[Net], x: Tensor, variant: Variant, aggregate: Aggregate | None) -> Forward:
    def answer(levels: Sequence[Params]) -> Tensor:
        if variant == "independent":
            parts = [block(weights, x) for block, weights in zip(blocks, levels, strict=True)]
            return aggregate(parts) if aggregate else torch.stack(parts).sum(0)
        y = x
        for block, weights in zip(blocks, levels, strict=True):
            y = block(weights, y)
        return y

    return answer


def _gradients(answer: Forward, loss: Loss, t: int, levels: list[Params]) -> list[Params]:
    return cast(list[Params], torch.func.grad(lambda weights: loss(answer(weights), t))(levels))


def _meta_step(start: Params, context: list[Tensor], rate: float | Tensor) -> Params:
    grads = torch.autograd.grad(
        torch.stack(context).sum(), list(start.values()), create_graph=True, allow_unused=True, materialize_grads=True
    )
    return {name: w - rate * g for (name, w), g in zip(start.items(), grads, strict=True)}


def _tracked(start: Params) -> Params:
    return {name: w if w.requires_grad else w.detach().requires_grad_() for name, w in start.items()}


def _reset_periods(periods: Sequence[int]) -> list[int]:
    """Tokens between the resets of each level, a multiple of its own period; 0 for the slowest."""
    resets = []
    for period in periods:
        slower = [p for p in periods if p > period]
        resets.append(-(-min(slower) // period) * period if slower else 0)
    return resets
