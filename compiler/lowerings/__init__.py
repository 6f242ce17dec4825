"""How loops run, where there is something better than tick by tick: one file each, and the table of when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nldsl.compiler.lowerings import closed

if TYPE_CHECKING:
    from nldsl.compiler.distribute import Loop
    from nldsl.compiler.piece import Piece


@dataclass(frozen=True)
class Lowering:
    """why_not: the reason why a loop can't run like this, "" if it can. run: runs it; False where it had to give up."""

    name: str
    why_not: Callable[[Loop, Any], str]
    run: Callable[[Piece, Loop], bool]


LOWERINGS = (Lowering("closed form", closed.why_not, closed.run),)


def lowering_of(loop: Loop, machine: Any) -> Lowering | None:
    """The first that fits."""
    return next((row for row in LOWERINGS if not row.why_not(loop, machine)), None)
