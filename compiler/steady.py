"""Chunks of one body, one after the other: what a chunk gives is handed to the next by its place.

What a body is known by (`steps.py`) is looked at once, not at every chunk: beside a short body that takes as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nldsl.compiler.chunks import Cut
from nldsl.compiler.nested import counted, flattened, restored
from nldsl.compiler.piece import Frame
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.compiler.asked import Asked
    from nldsl.compiler.steps import Step

Results = Callable[["Step", list[list[Tensor]], Cut, int], list[list[Tensor]]]


class Steady:
    """Runs the chunks after one that a body ran. given: what it gave; results: what a body gives of its inputs at
    chunks; packed: a tensor as bodies want it."""

    def __init__(
        self, body: Step, asked: Asked, given: Sequence[Tensor], results: Results, packed: Callable[[Tensor], Tensor]
    ) -> None:
        assert asked.cut is not None
        self.body, self.needs, self.alone, self.ticks = body, asked.needs, asked.alone, asked.piece.ticks
        self.cuts, self.phase, self.budget = asked.cut.cuts, asked.phase, asked.piece.machine.budget
        self.names = [n for n in asked.needs.values if n in asked.piece.values]
        before, after = (dict(form[1:]) for form in (asked.form, body.form))
        self.frame, self.values = after["frame"], after["values"]
        place = counted(before["values"]) + counted(before["frame"])
        self.parameters = asked.tensors[place:-1]
        self.places = [o for _, o in sorted(body.handed.items())]
        self.given, self.results, self.packed = given, results, packed
        self.loose: list[int] | None = None  # the inputs that have to be packed: at every chunk the same

    def takes(self, index: int, number: int, ticks: int, alone: bool) -> bool:
        """Whether a chunk, the next one, is of this body."""
        even = self.cuts.first < index < self.cuts.first + self.cuts.even
        return even and (ticks, alone) == (self.ticks, self.alone) and self.needs.phase(number) == self.phase

    def run(self, index: int, clocks: Sequence[Tensor]) -> list[dict[str, Any]]:
        """The values that chunks give, from this one on. clocks: the numbers of their ticks."""
        rows = [self._inputs(i, clock) for i, clock in enumerate(clocks, index)]
        found = self.results(self.body, rows, Cut(self.cuts, index), self.budget)
        self.given = found[-1]
        given = (iter(results[len(self.places) :]) for results in found)
        return [restored(self.values, values, self.needs.names.original) for values in given]

    def _inputs(self, index: int, clock: Tensor) -> list[Tensor]:
        """All that a body takes at a chunk. The state is that before the first of them."""
        tensors: list[Tensor] = []
        for name in self.names:
            flattened(self.cuts.part(name, index), tensors)
        tensors += [*(self.given[o] for o in self.places), *self.parameters, clock]
        if self.loose is None:
            packed = [self.packed(x) for x in tensors]
            self.loose = [i for i, (x, p) in enumerate(zip(tensors, packed, strict=True)) if x.stride() != p.stride()]
        for i in self.loose:
            tensors[i] = self.packed(tensors[i])
        return tensors

    def after(self, frame: Frame) -> Frame:
        """The frame after the last of these chunks."""
        given = owned(self.body, self.given)
        return self.needs.after(frame, restored(self.frame, iter(given), self.needs.names.original))


def owned(body: Step, results: Sequence[Tensor]) -> list[Tensor]:
    """What a body gives, for those outside: what chunks hand on as it is stays theirs."""
    return [x.clone() if i in body.fixed else x for i, x in enumerate(results)]
