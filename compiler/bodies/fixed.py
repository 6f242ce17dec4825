"""What a body gives without computing it: what is one number at all places, made once and handed on from chunk to
chunk, and inputs as they are. These, and inputs that nothing needs, are spared the way through autograd.

An optimizer that restarts with every chunk would else fill its state with zeros at each; a memory that a learn holds is
handed on as it was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from nldsl.compiler.bodies.nodes import ancestors, constant, part, results_of, value
from nldsl.compiler.bodies.tidy import writes
from nldsl.compiler.transforms import transformed
from torch import Tensor, fx


class Fixed:
    """A body without such results and inputs. graph: gives the others; used: the places of its inputs; handed: as in
    `Body`, by their places in the graph, negative where an input is not used. follows: which input an input was at the
    chunk before, by these places. before: which input a number was at this chunk, by its place. left: the places of the
    graph's results, by those in the body; following: `handed` as it was."""

    def __init__(self, graph: fx.GraphModule, handed: Mapping[int, int]) -> None:
        results = results_of(graph)
        inputs: list[fx.Node] = list(graph.graph.find_nodes(op="placeholder"))
        pure = not writes(graph.graph)
        self.numbers = {o: n for o, x in enumerate(results) if pure and (n := _number(x)) is not None}
        self.passed = {o: inputs.index(x) for o, x in enumerate(results) if pure and x in inputs}
        left = [o for o in range(len(results)) if o not in self.numbers and o not in self.passed]
        needed = ancestors([results[o] for o in left], ())
        follows = {i: self.passed[o] for i, o in handed.items() if o in self.passed and inputs[i] in needed}
        needed |= {inputs[i] for i in follows.values()}
        self.used = [i for i, x in enumerate(inputs) if x in needed]
        if not pure or not self.used:
            self.numbers, self.passed, follows = {}, {}, {}
            left, self.used = list(range(len(results))), list(range(len(inputs)))
        self.count, self.like = len(results), {o: value(results[o]) for o in self.numbers}
        self.before = {o: i for i, o in handed.items() if o in self.numbers}
        self.made: dict[int, Tensor] = {}
        at = {i: place for place, i in enumerate(self.used)}
        self.left, self.following = {o: place for place, o in enumerate(left)}, handed
        self.follows = {at[i]: at[source] for i, source in follows.items()}
        self.handed = {at.get(i, -1 - i): self.left[o] for i, o in handed.items() if o in self.left}
        self.graph = part(graph, [inputs[i] for i in self.used], [results[o] for o in left])

    def filled(self, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> list[Tensor]:
        """All results. What was handed on to this chunk, as it is, is handed on to the next."""
        left = iter(results)
        return [self._result(o, inputs, left) for o in range(self.count)]

    def _result(self, place: int, inputs: Sequence[Tensor], left: Iterator[Tensor]) -> Tensor:
        if place in self.passed:
            return inputs[self.passed[place]]
        return self._fixed(place, inputs) if place in self.numbers else next(left)

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
