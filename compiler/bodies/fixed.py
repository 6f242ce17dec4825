"""What a body gives that is one number at all places: made once, and handed on from chunk to chunk.

An optimizer that restarts with every chunk would else fill its state with zeros at each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from nldsl.compiler.bodies.nodes import constant, part, results_of, value
from nldsl.compiler.bodies.tidy import writes
from nldsl.compiler.transforms import transformed
from torch import Tensor, fx


class Fixed:
    """A body without such results. graph: gives the others; handed: as in `Body`, of the others by their places.
    before: which input one was at this chunk, by its place."""

    def __init__(self, graph: fx.GraphModule, handed: Mapping[int, int]) -> None:
        results = results_of(graph)
        self.count = len(results)
        pure = not writes(graph.graph)
        numbers = {o: n for o, x in enumerate(results) if pure and (n := _number(x)) is not None}
        self.numbers = numbers if len(numbers) < self.count else {}  # a body has at least one result
        self.like = {o: value(results[o]) for o in self.numbers}
        self.before = {o: i for i, o in handed.items() if o in self.numbers}
        self.made: dict[int, Tensor] = {}
        places = {o: place for place, o in enumerate(o for o in range(self.count) if o not in self.numbers)}
        self.handed = {i: places[o] for i, o in handed.items() if o in places}
        inputs = graph.graph.find_nodes(op="placeholder")
        self.graph = part(graph, inputs, [results[o] for o in places]) if self.numbers else graph

    def filled(self, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> list[Tensor]:
        """All results. What was handed on to this chunk, as it is, is handed on to the next."""
        if not self.numbers:
            return list(results)
        left = iter(results)
        return [self._fixed(o, inputs) if o in self.numbers else next(left) for o in range(self.count)]

    def _fixed(self, place: int, inputs: Sequence[Tensor]) -> Tensor:
        handed = place in self.before and not transformed()
        if handed and inputs[self.before[place]] is self.made.get(place):
            return self.made[place]
        like, number = self.like[place], self.numbers[place]
        made = torch.full(like.shape, number, dtype=like.dtype, device=inputs[0].device)
        if handed:
            self.made[place] = made
        return made


def _number(result: fx.Node) -> float | None:
    return constant(result) if value(result).is_contiguous() else None
