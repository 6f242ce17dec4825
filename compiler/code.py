"""The FX code of a program's bodies, as they are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from nldsl.compiler.distribute import Loop, Stage
from nldsl.compiler.module import CompiledModule

from nldsl.graph import LevelGraph, Port


def code(graph: LevelGraph, only: str = "") -> str:
    """Every body of a program as FX code, in the order in which they are first run. It is traced over a batch of two
    sequences, two chunks long."""
    module = CompiledModule(graph, only=only)
    ticks = 2 * max(_lengths(module.plan.stages), default=1)
    steps = module.runner.steps
    steps.patience, steps.everything = 0, True
    with torch.no_grad():
        module(*(_example(p, ticks) for p in graph.tick.inputs))
    parts = []
    for number, step in enumerate(steps.bodies.values()):
        if step.graph is not None:
            lines = (line for line in step.graph.code.strip().splitlines() if line.strip())
            parts.append(f"# body {number}: {step.title}\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _lengths(stages: Sequence[Stage]) -> Iterator[int]:
    return (stage.length for stage in stages if isinstance(stage, Loop))


def _example(port: Port, ticks: int) -> torch.Tensor:
    shape = [2, ticks, *([port.heads] if port.heads else []), *map(int, port.shape)]
    whole = port.dtype == "int"
    return torch.zeros(shape, dtype=torch.int64 if whole else torch.float32)
