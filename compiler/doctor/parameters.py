"""Parameters that never learn: their gradient is exactly zero at each of the first training steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from nldsl.compiler.doctor.probe import Inputs, copied
from nldsl.compiler.module import CompiledModule

from nldsl.graph import LevelGraph

STEPS = 3  # what stands behind a zero matrix gets its first gradient at the second
LEAST, MOST = 64, 1024  # tokens of a step


@dataclass(frozen=True)
class Trained:
    """learned: how many parameters a learn on the step clock teaches. dead: those without any gradient.
    length: the tokens of a step. broken: the step whose loss was not finite, or 0."""

    learned: int
    dead: tuple[str, ...]
    length: int
    broken: int = 0


def length_for(graph: LevelGraph, tokens: int) -> int:
    """Tokens of a step: enough that what a memory wrote is read again, as only then its rates get a gradient."""
    learns = [o for o in graph.objectives if o.every.unit == "token" and not (o.kind == "loss" and o.detached)]
    longest = max((max(o.every.count, o.hold_length, o.over) for o in learns), default=1)
    return min(tokens, MOST, max(LEAST, 2 * longest + 2))


def trained(module: CompiledModule, inputs: Inputs, progress: Callable[[int], None]) -> Trained:
    """Three steps of a copy of the module, on successive parts of the inputs [batch, ticks, …]."""
    module = copied(module)
    optimizers = module.optimizers()
    served = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    names = {name: p for name, p in module.named_parameters() if id(p) in served}
    batch, ticks = inputs[0].shape[:2]
    length = length_for(module.graph, ticks)
    if not names:
        return Trained(0, (), length)
    alive: set[str] = set()
    for step in range(STEPS):
        begin = step * length % (ticks - length + 1)
        mean, _ = module.backward(*(x[:, begin : begin + length] for x in inputs))
        if not math.isfinite(float(mean)):
            return Trained(len(names), (), length, step + 1)
        alive |= {n for n, p in names.items() if p.grad is not None and bool(torch.any(p.grad != 0))}
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        progress(batch * length)
    return Trained(len(names), tuple(n for n in names if n not in alive), length)
