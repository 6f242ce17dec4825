"""TTT-E2E (2025): some of a model's weights learn from the next-token loss, window by window."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .nets import Params, State, gradient

Model = Callable[[Params, Tensor], Tensor]


def ttt_e2e(
    model: Model,
    params: Params,
    fast_names: Sequence[str],
    ids: Tensor,
    lr: Tensor | float,
    period: int,
    clip: float | None = None,
    *,
    reduction: Literal["sum", "mean"] = "sum",
    context: Literal["prefix", "window"] = "prefix",
    detached: bool = False,
) -> tuple[Tensor, State]:
    """Logits [T, V] of ids [T]; the named weights take one SGD step after every `period` tokens.

    model(params, ids [n]) -> logits [n, V] is causal. A window's logits come from the weights of its time; they are the
    last rows of the model run on all tokens so far with those weights (`context="prefix"`) or on the window alone.
    A window's loss is the cross-entropy of each of its tokens with the token after it, the last one's target being the
    first token of the next window; the step lands before that token. So the last window, complete or not, never writes.
    `clip` bounds the norm of the gradient of all fast weights together: g * min(1, clip / ||g||).
    `detached`: steps are data, and outer gradients reach only the starts. Returns the logits and {"weights"}: the fast
    weights after the last step.
    """
    fast = {name: params[name] for name in fast_names}
    outputs = []
    for first in range(0, len(ids), period):
        end = min(first + period, len(ids))
        seen = ids[:end] if context == "prefix" else ids[first:end]
        outputs.append(model({**params, **fast}, seen)[first - end :])
        if end == len(ids):
            break
        step = _clipped(_step(model, params, fast, seen, ids[first + 1 : end + 1], reduction), clip)
        fast = {name: w - lr * (step[name].detach() if detached else step[name]) for name, w in fast.items()}
    return torch.cat(outputs), {"weights": fast}


def _step(model: Model, params: Params, fast: Params, seen: Tensor, targets: Tensor, reduction: str) -> Params:
    def loss(weights: Params) -> Tensor:
        return cross_entropy(model({**params, **weights}, seen)[-len(targets) :], targets, reduction=reduction)

    return gradient(loss, fast)


def _clipped(step: Params, clip: float | None) -> Params:
    if clip is None:
        return step
    norm = torch.cat([g.flatten() for g in step.values()]).norm()
    return step if norm <= clip else {name: g * (clip / norm) for name, g in step.items()}
