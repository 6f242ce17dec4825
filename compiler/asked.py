"""What a body is asked to do at a piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nldsl.compiler.chunks import Cut
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Stage, Together
from nldsl.compiler.needs import Needs
from nldsl.compiler.piece import Piece
from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """The piece, the stage and its records, what they need, in which form, and the tensors."""

    piece: Piece
    todo: Stage
    nodes: Sequence[Node]
    alone: bool
    needs: Needs
    form: Any
    tensors: list[Tensor]

    @property
    def phase(self) -> tuple[Any, ...]:
        return self.needs.phase(self.piece.number)

    @property
    def cut(self) -> Cut | None:
        return self.piece.values if isinstance(self.piece.values, Cut) else None


def title(asked: Asked) -> str:
    """What a body is, in a few words."""
    piece, todo = asked.piece, asked.todo
    ticks = f"{piece.ticks} tick{'s' if piece.ticks > 1 else ''} from {piece.number} on"
    if isinstance(todo, Together):
        return f"{len(todo.nodes)} records over {ticks}"
    return f"{', '.join(todo.memories) or 'attention'}, {ticks}{', record by record' if asked.alone else ''}"
