"""Running stages, and what their records make and ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from nldsl.compiler import loops, recompute
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Stage, Together
from nldsl.compiler.piece import Frame, Piece

from nldsl.graph import Memory, Objective, Stream


def run(piece: Piece, stages: Iterable[Stage], inside: bool = True) -> None:
    """Run these stages over a piece. inside: whether they are the body of a loop."""
    from nldsl.compiler.lowerings import LOWERINGS, fused  # they run stages too

    for stage in stages:
        if not isinstance(stage, Together):
            by_kernel = stage.kernels and fused.run(piece, stage)
            if not by_kernel and not (stage.lowering and LOWERINGS[stage.lowering].run(piece, stage)):
                loops.run(piece, stage)
        elif inside:
            piece.run(stage.nodes)
        elif _computed_again(piece, stage):
            _again(piece, stage)
        else:
            piece.machine.steps.together(piece, stage)


def _computed_again(piece: Piece, stage: Together) -> bool:
    """Not where a learn takes gradients, which `torch.func` does not do under checkpoints; nor where a compiler has
    bodies run in one way first and in another then."""
    machine = piece.machine
    training = torch.is_grad_enabled() and not piece.plain and not torch.compiler.is_compiling()
    plain = machine.steps.compiler is None and not any(isinstance(record, Objective) for record, _ in stage.nodes)
    return bool(machine.budget) and training and plain


def _again(piece: Piece, stage: Together) -> None:
    """Run records whose values are computed again in the backward pass: what they need is kept, and what they give."""
    machine, low = piece.machine, piece.machine.low
    given, frame = {n: piece.values[n] for n in machine.reads(stage.nodes) if n in piece.values}, dict(piece.frame)
    empty = replace(piece, values={}, frame={})  # not the piece: with what is given it would never be freed

    def run() -> tuple[dict[str, Any], Frame]:
        own = replace(empty, values=dict(given), frame=dict(frame))
        before, machine.low = machine.low, low
        try:
            machine.steps.together(own, stage)
        finally:
            machine.low = before
        return own.values, own.frame

    values, piece.frame = recompute.again(run)
    piece.values.update(values)


def given(nodes: Iterable[Node]) -> frozenset[str]:
    """The values that records make."""
    found: set[str] = set()
    for record, part in nodes:
        if isinstance(record, Stream):
            found |= {record.id} if record.op != "assign" else set()
        elif isinstance(record, Memory):
            if record.form == "attention":
                found |= {f"epoch {record.id}", f"begun {record.id}"}
        elif part == "gather":
            found.add(f"gradient {record.id}")
        elif record.kind == "pairs":
            found.add(f"kept {record.memories[0]}")
        elif record.kind == "loss" and record.every.unit == "token":
            found |= {f"active {record.id}", f"weights {record.id}", f"rates {record.id}"}
    return frozenset(found)


def used(nodes: Iterable[Node], taken: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The values that records ask for."""
    found: set[str] = set()
    for record, part in nodes:
        if isinstance(record, Stream):
            found |= {a for a in record.args if isinstance(a, str)}
            if record.op == "recall":
                found |= {f"epoch {record.memory}", f"kept {record.memory}"}
        elif isinstance(record, Memory):
            found |= {record.reset_when} - {""}
        else:
            found |= {p.stream for b in record.bodies for p in b.inputs if p.stream} | set(record.pair) - {""}
            found |= {v for v in (record.when, record.over_weight, *record.weights) if isinstance(v, str) and v}
            found |= taken[record.id]
            if part == "write":
                found.add(f"gradient {record.id}")
            if record.kind == "pairs":
                found |= {f"epoch {record.memories[0]}", f"begun {record.memories[0]}"}
    return frozenset(found)
