"""LaCT (Zhang et al. 2025): SwiGLU fast weights, one write per large chunk, with the semantics of the official code."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .nets import Objective, Params, State, gradient, mix, newton_schulz, swiglu, zeros_like

# The official code's own schedule of Newton-Schulz coefficients, one triple a round.
SCHEDULE = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def lact(
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lr0: Tensor,
    lr1: Tensor,
    lr2: Tensor,
    chunk: int,
    momentum: Tensor | None = None,
    muon: bool = False,
    *,
    schedule: Sequence[tuple[float, float, float]] = SCHEDULE,
    eps: float = 1e-5,
    write_last: bool = True,
) -> tuple[Tensor, State]:
    """Apply, then update: a chunk reads the weights that the earlier chunks left, then writes once.

    start: {"gate", "up" [d, h], "down" [h, d]}, the official W_0, W_2 and W_1; q, k, v [T, d]; lr0, lr1, lr2 [T] are
    the steps of W_0, W_1, W_2 and momentum [T] the decay, averaged over a chunk.

        G = sum_i lr_i grad <f(k_i), v_i>,  P = G + mean(momentum) P,  W <- W + P (or NS(P)),

    then the incoming weights of every unit (a column of W) go back to their norm at the start, W / (norm + eps) *
    norm_0. A ragged last chunk never writes; `write_last=False` also spares a complete one at the end of the sequence
    (no output sees the difference). Returns y [T, d] and {"weights", "momentum"}; with `momentum=None` the latter is
    the last chunk's G.
    """
    weights, speed = start, zeros_like(start)
    outputs = []
    for first in range(0, len(q), chunk):
        end = first + chunk
        outputs += [swiglu(weights, token) for token in q[first:end]]
        if end > len(q) or (end == len(q) and not write_last):
            continue
        step = zeros_like(start)
        for i in range(first, end):
            grads = gradient(_agreement(k[i], v[i]), weights)
            rates = {"gate": lr0[i], "down": lr1[i], "up": lr2[i]}
            step = {name: step[name] + rates[name] * grads[name] for name in step}
        speed = step if momentum is None else mix((1.0, step), (momentum[first:end].mean(), speed))
        write = {name: newton_schulz(p, schedule) if muon else p for name, p in speed.items()}
        weights = {name: _on_sphere(w + write[name], start[name], eps) for name, w in weights.items()}
    return torch.stack(outputs), {"weights": weights, "momentum": speed}


def _agreement(k: Tensor, v: Tensor) -> Objective:
    return lambda params: swiglu(params, k) @ v


def _on_sphere(w: Tensor, start: Tensor, eps: float) -> Tensor:
    size: Tensor = torch.linalg.norm(w, dim=0, keepdim=True)
    wanted: Tensor = torch.linalg.norm(start, dim=0, keepdim=True)
    return w / (size + eps) * wanted
