"""Models whose memories learn from their own loss while they read, by hand around the oracles. Each takes tokens [T]
and the model's parameters by name, and gives logits [T, vocab] and the running weights after the last token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import nldsl

from .comparing import BATCH, Named, attended, distance, rmsnorm, stirred
from .layers_deep import self_modifying
from .oracles import nets
from .oracles.cms import Loss, cms
from .oracles.nets import Net, Params
from .oracles.segments import ttt_e2e
from .rows_deep import named, of

VOCAB, DIM = 7, 4
ByHand = Callable[[Tensor, Named], tuple[Tensor, Named]]
Trunk = Callable[[Tensor, Named], Tensor]


def learning_from_loss(program: str, by_hand: ByHand, ticks: int, only: str = "", **hyper: Any) -> dict[str, float]:
    """How far a model is from what is composed by hand: logits, running weights, and gradients by every parameter of a
    random projection of the logits. A program that is a block is made a model."""
    module = nldsl.compile(program, as_model=True, vocab=VOCAB, dim=DIM, dtype=torch.float64, only=only, **hyper)
    p = dict(stirred(module).named_parameters())
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCAB, (BATCH, ticks), generator=random)
    logits, state = module(ids)
    runs = [by_hand(row, p) for row in ids]
    expected = torch.stack([y for y, _ in runs])
    apart = {"logits": distance(logits, expected)}
    running = module.weights(state)
    for name in runs[0][1]:
        apart[name] = distance(running[name], torch.stack([after[name] for _, after in runs]))
    weights = torch.randn(logits.shape, generator=random, dtype=torch.float64)
    slopes = [torch.autograd.grad((weights * y).sum(), list(p.values()), allow_unused=True) for y in (logits, expected)]
    for (name, leaf), a, b in zip(p.items(), *slopes, strict=True):
        zero = torch.zeros_like(leaf)
        apart[f"gradient by {name}"] = distance(zero if a is None else a, zero if b is None else b)
    return apart


def embedded(ids: Tensor, p: Named) -> Tensor:
    return p["x.embed.table"][ids]


def head(x: Tensor, p: Named) -> Tensor:
    return rmsnorm(x, p["logits.rmsnorm.gain"]) @ p["logits.linear.w"]


# Continuum memory systems

SEQUENTIAL, NESTED, INDEPENDENT = ({"variant": name} for name in ("sequential", "nested", "independent"))


def level(gain: Tensor, residual: bool = True) -> Net:
    """x + F(rmsnorm(x)), or the latter alone; the norm is a slow weight."""

    def net(weights: Params, x: Tensor) -> Tensor:
        answer = nets.mlp(weights, rmsnorm(x, gain))
        return x + answer if residual else answer

    return net


def losses_of(ids: Tensor, skip: Tensor, p: Named) -> Loss:
    """Cross-entropy of the next token; nothing for the last, whose next is not known."""

    def loss(y: Tensor, t: int) -> Tensor:
        if t + 1 == len(ids):
            return 0 * y.sum()
        return cross_entropy(head(skip[t] + y, p), ids[t + 1])

    return loss


def rates(periods: Sequence[int], ticks: int, lr: float) -> list[Tensor]:
    return [torch.full((ticks,), lr / period, dtype=torch.float64) for period in periods]


def detached_cms(
    blocks: Sequence[Net], starts: Sequence[Params], x: Tensor, periods: Sequence[int], loss: Loss, variant: str
) -> tuple[Tensor, list[Params]]:
    """The oracle's system, its steps as data: at each token its weights are the starts and how far they were moved."""
    answers, levels = [], list(starts)
    for t in range(len(x) + 1):
        if t:
            _, state = cms(blocks, starts, x[:t], periods, rates(periods, t, 0.1), loss, variant=variant)  # type: ignore[arg-type]
            ends = [state[f"level{i}"] for i in range(len(starts))]
            levels = [
                {name: w + (end[name] - w).detach() for name, w in start.items()}
                for start, end in zip(starts, ends, strict=True)
            ]
        if t < len(x):
            # One token, before any period ends: the oracle as a plain function of these weights.
            y, _ = cms(blocks, levels, x[t : t + 1], [2] * len(levels), rates(periods, 1, 0), _nothing, variant=variant)  # type: ignore[arg-type]
            answers.append(y[0])
    return torch.stack(answers), levels


def _nothing(y: Tensor, t: int) -> Tensor:
    return 0 * y.sum()


def sequential(at: str, periods: Sequence[int], trunk: Trunk | None = None) -> ByHand:
    """`CMS` under the name `at`: of a model around the block, or behind the other half of its only layer."""

    def by_hand(ids: Tensor, p: Named) -> tuple[Tensor, Named]:
        x = embedded(ids, p)
        skip, x = (x, rmsnorm(x, p["rmsnorm.gain"])) if trunk is None else (torch.zeros_like(x), trunk(x, p))
        blocks = [level(p[f"{at}.rmsnorm_{n}.gain"]) for n in periods]
        starts = [of(f"{at}.F_{n}", p) for n in periods]
        y, levels = detached_cms(blocks, starts, x, periods, losses_of(ids, skip, p), "sequential")
        return head(skip + y, p), named({f"{at}.F_{n}": w for n, w in zip(periods, levels, strict=True)})

    return by_hand


def independent(periods: Sequence[int]) -> ByHand:
    def by_hand(ids: Tensor, p: Named) -> tuple[Tensor, Named]:
        at, skip = "independent_cms", embedded(ids, p)
        x = rmsnorm(skip, p["rmsnorm.gain"])
        blocks = [level(p[f"{at}.rmsnorm_{n}.gain"], residual=False) for n in periods]
        starts = [of(f"{at}.F_{n}", p) for n in periods]
        y, levels = detached_cms(blocks, starts, x, periods, losses_of(ids, skip + x, p), "independent")
        return head(skip + x + y, p), named({f"{at}.F_{n}": w for n, w in zip(periods, levels, strict=True)})

    return by_hand


def nested(periods: Sequence[int], lr: float, start_lr: float) -> ByHand:
    """Each level but the slowest is named after the period of the next. The program's steps of starts are first-order
    and the oracle's are not, which is the same where one of the rates is 0."""

    def by_hand(ids: Tensor, p: Named) -> tuple[Tensor, Named]:
        at, skip, slower = "nested_cms", embedded(ids, p), periods[1:]
        x = rmsnorm(skip, p["rmsnorm.gain"])
        blocks = [*(level(p[f"{at}.rmsnorm_{n}.gain"]) for n in slower), level(p[f"{at}.rmsnorm.gain"])]
        starts = [{"up": p[f"{at}.Up_{n}.w"], "down": p[f"{at}.Down_{n}.w"]} for n in slower]
        steps, context = rates(periods, len(ids), lr), [start_lr / n for n in slower]
        starts, loss = [*starts, of(f"{at}.F", p)], losses_of(ids, skip, p)
        y, state = cms(blocks, starts, x, periods, steps, loss, variant="nested", start_rates=[*context, 0.0])
        ends: Named = named({f"{at}.F": state[f"level{len(slower)}"]})
        for i, n in enumerate(slower):
            for leaf, slow, fast in (("up", "Up", "U"), ("down", "Down", "D")):
                start = state[f"start{i}"][leaf]
                ends |= {f"{at}.{slow}_{n}.w": start, f"{at}.{fast}_{n}.w": state[f"level{i}"][leaf] - start}
        return head(skip + y, p), ends

    return by_hand


# What stands before the system in Hope


def after_attention(x: Tensor, p: Named) -> Tensor:
    return x + attended(rmsnorm(x, p["layers.0.rmsnorm.gain"]), p, "layers.0.attention.")


def after_titans(x: Tensor, p: Named) -> Tensor:
    normed = rmsnorm(x, p["layers.0.rmsnorm.gain"])
    return x + self_modifying(normed, of("layers.0.self_modifying_titans", p))


# TTT-E2E


def end_to_end(period: int, lr: float, clip: float, window: int) -> ByHand:
    at = "ttte2_e"
    fast = [f"{at}.F.up", f"{at}.F.down"]

    def model(p: Named, ids: Tensor) -> Tensor:
        outer = embedded(ids, p)
        x = rmsnorm(outer, p["rmsnorm.gain"])
        x = x + attended(rmsnorm(x, p[f"{at}.rmsnorm.gain"]), p, f"{at}.attention.", window)
        x = x + nets.mlp(of(f"{at}.F", p), rmsnorm(x, p[f"{at}.y.rmsnorm.gain"]))
        return head(outer + x, p)

    def by_hand(ids: Tensor, p: Named) -> tuple[Tensor, Named]:
        logits, after = ttt_e2e(model, p, fast, ids, lr, period, clip, reduction="mean")
        return logits, after["weights"]

    return by_hand
