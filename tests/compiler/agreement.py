"""A compiled program and the reference interpreter: what both say of the same inputs, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from laws.programs import Inputs, machine
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.reference import Interpreter
from torch import Tensor

from nldsl.graph import LevelGraph

TOLERANCE = 1e-10  # of a difference's norm, relative to norms beyond one
KINDS = ("output", "losses", "weights", "gradient")

Seen = dict[str, Tensor]  # "output 0", "losses", "weights M.w", "gradient W.w"
Build = Callable[[LevelGraph], CompiledModule]


# The two of them


class Reference(Interpreter):
    """The interpreter, asked for everything in one pass."""

    def all(self, inputs: Inputs, state: Any = None) -> tuple[list[Tensor], Tensor, Any]:
        """Outputs, losses [batch, ticks] (0 where nothing is known yet), and the state after."""
        outs, losses, after = self._rows(inputs, state, 0, None)
        ticks = next(iter(inputs.values())).shape[1]
        zero = torch.zeros((), dtype=self.dtype)
        rows = [torch.stack([zero] * (ticks - len(row)) + row) for row in losses]
        return [torch.stack([torch.stack(row) for row in out]) for out in outs], torch.stack(rows), after

    def running(self, state: Any) -> dict[str, Tensor]:
        """`weights` of all sequences, [batch, (heads,) *shape]."""
        rows = [self.weights(state, row) for row in range(len(state))]
        return {n: torch.stack([row[n] for row in rows]) for n in rows[0]}


def compiled(graph: LevelGraph, only: str = "") -> CompiledModule:
    return CompiledModule(graph, dtype=torch.float64, only=only)


def by_recurrence(graph: LevelGraph) -> CompiledModule:
    """Token by token: nothing runs over several ticks."""
    return compiled(graph, "recurrence")


def by_graphs(graph: LevelGraph) -> CompiledModule:
    """Whatever is made a graph when it has been met often enough is made one at once."""
    module = compiled(graph)
    module.runner.steps.patience = 0
    return module


def by_aot(graph: LevelGraph) -> CompiledModule:
    """Through torch's compiler, up to the machine code at its end."""
    module = compiled(graph)
    module.compile(backend="aot_eager")
    return module


def by_inductor(graph: LevelGraph) -> CompiledModule:
    """Through all of torch's compiler."""
    module = compiled(graph)
    module.compile()
    return module


def pair(graph: LevelGraph, build: Build = compiled) -> tuple[Reference, CompiledModule]:
    """Both, with the same parameters, none of them zero."""
    reference, module = machine(graph, Reference), build(graph)
    assert isinstance(reference, Reference)
    named = dict(module.named_parameters())
    assert named.keys() == reference.parameters.keys()
    for name, value in reference.parameters.items():
        named[name].data.copy_(value.data)
    return reference, module


# What they say


def of_reference(reference: Reference, inputs: Inputs, state: Any = None) -> tuple[Seen, Any]:
    """All that a run shows, and the state after."""
    given = opened(inputs, reference.dtype)
    outs, losses, after = reference.all(given, state)
    seen = shown(outs, losses if reference.graph.loss else None)
    weights = {f"weights {n}": w for n, w in reference.running(after).items()}
    return seen | weights | gradients(seen, reference.parameters, given), after


def of_module(
    module: CompiledModule, inputs: Inputs, state: Any = None, mask: Tensor | None = None
) -> tuple[Seen, Any]:
    """The same of a compiled module."""
    given = opened(inputs, torch.float64)
    streams = [given[p.id] for p in module.graph.tick.inputs]
    *outs, after = module(*streams, state=state, mask=mask)
    losses = None
    if module.graph.loss:
        losses, known, _ = module.losses(*streams, state=state, mask=mask)
        losses = torch.where(known, losses, torch.zeros_like(losses))
    seen = shown(outs, losses)
    weights = {f"weights {n}": w for n, w in module.weights(after).items()}
    return seen | weights | gradients(seen, dict(module.named_parameters()), given), after


def opened(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """The same numbers, asking for gradients."""
    return {n: x.detach().to(dtype).requires_grad_() if x.is_floating_point() else x for n, x in inputs.items()}


def shown(outs: Sequence[Tensor], losses: Tensor | None) -> Seen:
    seen = {f"output {i}": out for i, out in enumerate(outs)}
    return seen if losses is None else seen | {"losses": losses}


def gradients(seen: Seen, parameters: Mapping[str, Tensor], inputs: Inputs) -> Seen:
    """Of a random sum of all outputs and losses, by every parameter and input; none is zero."""
    if not torch.is_grad_enabled():
        return {}
    generator = torch.Generator().manual_seed(1)
    total = torch.zeros(())
    for value in seen.values():
        factors = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        total = total + (value * factors.to(value.dtype)).sum()
    wanted = dict(parameters) | {f"input {n}": x for n, x in inputs.items() if x.requires_grad}
    if not wanted:
        return {}
    leaves = list(wanted.values())
    found = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    return {
        f"gradient {n}": torch.zeros_like(x) if g is None else g
        for (n, x), g in zip(wanted.items(), found, strict=True)
    }


# How far apart they are


def apart(value: Tensor, reference: Tensor) -> float:
    """The norm of the difference, relative to norms of the reference beyond one."""
    assert value.shape == reference.shape, (value.shape, reference.shape)
    gap = torch.linalg.vector_norm(value.detach().double() - reference.detach().double())
    return float(gap) / max(1.0, float(torch.linalg.vector_norm(reference.detach())))


def errors(value: Seen, reference: Seen) -> dict[str, float]:
    """How far everything is from the reference."""
    assert value.keys() == reference.keys(), value.keys() ^ reference.keys()
    return {n: apart(value[n], x) for n, x in reference.items()}


def wrong(found: Mapping[str, float]) -> dict[str, float]:
    """What is too far from it, or no number."""
    return {n: e for n, e in found.items() if not e <= TOLERANCE}


def first_tick(value: Seen, reference: Seen) -> int | None:
    """The first tick whose outputs or losses differ."""
    found = []
    for name, x in reference.items():
        if name.split()[0] in ("output", "losses"):
            ticks = range(x.shape[1])
            found += [t for t in ticks if not apart(value[name][:, t], x[:, t]) <= TOLERANCE][:1]
    return min(found, default=None)
