"""How loops run, where there is something better than tick by tick: one file each, and the table of when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nldsl.compiler.distribute import Loop, Stage, Together
from nldsl.compiler.lowerings import closed
from nldsl.compiler.lowerings.trial import Tried

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece

CHUNK = 32  # ticks of a loop that the text does not cut: as fast as 64 on CPUs, with half the rounding


@dataclass(frozen=True)
class Lowering:
    """tried: whether a loop can run like this. run: runs it; False where it has nothing to gain."""

    tried: Callable[[Loop, Any], Tried]
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
        found: Tried = machine.once(loop, row.tried)
        if not found.refused:
            fast = replace(loop, lowering=name, because=tuple(found.because.items()))
            most = found.most if chunk else min(found.most, CHUNK)
            if 0 < chunk <= most:
                return fast
            return replace(loop, length=most, stages=(fast,), kernels=() if chunk else found.kernels)
        refused = refused or found.refused
    return replace(loop, refused=refused)
