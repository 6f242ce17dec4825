"""Where numbers stopped being finite: which memory, of which level, and at which token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler.module import CompiledModule
from torch import Tensor

from nldsl.graph import LevelGraph
from nldsl.levels import levels_of


@dataclass(frozen=True)
class Broken:
    """row: of the batch. token: its place in the piece, from 0. memory: its name, or empty if only the loss is not
    finite. level: its number, or 0. pace: its period, as text."""

    row: int
    token: int
    memory: str = ""
    level: int = 0
    pace: str = ""

    def __str__(self) -> str:
        if not self.memory:
            return f"the loss at token {self.token} of row {self.row}, while every memory is finite"
        return f"memory `{self.memory}` (level {self.level}, {self.pace}) at token {self.token} of row {self.row}"


def all_finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether all of these tensors are; one look at the device for all."""
    found = [w.isfinite().all() for w in weights.values() if w.is_floating_point()]
    return bool(torch.stack(found).all()) if found else True


def find(module: CompiledModule, ids: Tensor, state: Any) -> Broken | None:
    """The first token of this piece behind which a memory or a loss is not finite, by bisection: the piece is read
    again, from the same state, up to this place and that. None where everything is finite. ids: [batch, length]."""
    if _broken(module, ids, state) is None:
        return None
    finite, broken = 0, ids.shape[1]
    while broken - finite > 1:
        middle = (finite + broken) // 2
        if _broken(module, ids[:, :middle], state) is None:
            finite = middle
        else:
            broken = middle
    return _broken(module, ids[:, :broken], state)


def _broken(module: CompiledModule, ids: Tensor, state: Any) -> Broken | None:
    """What is not finite after reading this; the token named is its last."""
    with torch.no_grad():
        losses, known, after = module.losses(ids, state=state)
        weights = module.weights(after)
    last = ids.shape[1] - 1
    for number, level in enumerate(levels_of(module.graph), 1):
        for member in level:
            for leaf in _leaves(module.graph, member.id):
                rows = [] if leaf not in weights else _rows(~weights[leaf].isfinite())
                if rows:
                    return Broken(rows[0], last, member.id, number, str(member.period))
    rows = _rows(known & ~losses.isfinite())
    return Broken(rows[0], last) if rows else None


def _rows(wrong: Tensor) -> list[int]:
    return wrong.flatten(1).any(1).nonzero().flatten().tolist()


def _leaves(graph: LevelGraph, memory: str) -> list[str]:
    record = graph.memories.get(memory)
    return [f"{memory}.{leaf.name}" for leaf in record.leaves] if record else []
