"""How loops run, where there is something better than tick by tick: one file each, and the table of when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nldsl.compiler.distribute import Loop, Stage, Together
from nldsl.compiler.lowerings import closed

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece

CHUNK = 64  # ticks of a loop that the text does not cut: the best on CPUs, and what kernels take
MOST = 256  # ticks at once: some of the work grows with their square


@dataclass(frozen=True)
class Lowering:
    """tried: why a loop can't run like this, "" if it can, and then why it can, by memory. run: runs it; False where it
    has nothing to gain."""

    tried: Callable[[Loop, Any], tuple[str, dict[str, tuple[str, ...]]]]
    run: Callable[[Piece, Loop], bool]


LOWERINGS = {"closed form": Lowering(closed.tried, closed.run)}


def lowered(stages: Sequence[Stage], machine: Any, chunk: int = 0) -> tuple[Stage, ...]:
    """The same stages, each loop with the first lowering that fits it. machine: of `trial`. chunk: of how many ticks
    they are the body, 0 for any number."""
    return tuple(s if isinstance(s, Together) else _loop(s, machine, chunk) for s in stages)


def _loop(loop: Loop, machine: Any, chunk: int) -> Loop:
    if loop.length > 1:
        return replace(loop, stages=lowered(loop.stages, machine, loop.length))
    refused = ""
    for name, row in LOWERINGS.items():
        reason, because = machine.once(loop, row.tried)
        if not reason:
            fast = replace(loop, lowering=name, because=tuple(because.items()))
            return fast if 0 < chunk <= MOST else replace(loop, length=MOST if chunk else CHUNK, stages=(fast,))
        refused = refused or reason
    return replace(loop, refused=refused)
