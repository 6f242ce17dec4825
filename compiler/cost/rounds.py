"""A deep program from one with few rounds of its `repeat`: what the last of these costs, each further one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from nldsl.compiler.cost.measured import Measured
from nldsl.compiler.cost.owners import Owners, repeats
from nldsl.compiler.cost.work import Work
from nldsl.compiler.segments import loss_learns

from nldsl.graph import LevelGraph
from nldsl.parameters import learned_parameters

ALIKE = 0.02  # the relative difference of two rounds' work


@dataclass(frozen=True)
class Rounds:
    """graph: what is run. owners: of its records. repeat: of which it has `count` rounds only. times: how often the
    last of them counts."""

    graph: LevelGraph
    owners: Owners
    repeat: str = ""
    count: int = 0
    times: int = 1

    @classmethod
    def of(cls, graph: LevelGraph) -> Rounds:
        """The graph as it is."""
        return cls(graph, Owners.of(graph))

    def counts(self) -> Counter[str]:
        """How many copies of each block there are."""
        blocks: dict[str, set[str]] = {}
        for owner in self.owners.levels:
            block = self.owners.block(owner)
            blocks.setdefault(block, set()).add(".".join(owner.split(".")[: block.count(".") + 1]))
        return Counter({b: sum(self.factor(f"{path}.") for path in paths) for b, paths in blocks.items()})

    def factor(self, record: str) -> int:
        """How often what belongs to a record counts."""
        last = f"{self.repeat}.{self.count - 1}."
        return self.times if (self.owners.owner(record) or record).startswith(last) else 1

    def whole(self, found: Measured) -> Measured:
        """What the whole program costs."""
        works: dict[str, Work] = {}
        for record, work in found.works.items():
            works[record] = Work(work.flops * self.factor(record), work.bytes * self.factor(record))
        alive, state = ({n: size * self.factor(n) for n, size in d.items()} for d in (found.alive, found.state))
        return Measured(works, alive, state)

    def alike(self, found: Measured) -> bool:
        """Whether the last two rounds do the same."""
        if self.times == 1:
            return True
        a, b = (self._round(found, self.count - i) for i in (2, 1))
        return all(abs(x - y) <= ALIKE * max(x, y) for x, y in ((a.flops, b.flops), (a.bytes, b.bytes)))

    def _round(self, found: Measured, number: int) -> Work:
        total = Work()
        for record, work in found.works.items():
            if self.owners.owner(record).startswith(f"{self.repeat}.{number}."):
                total.add(work)
        return total


def rounds_of(graph: LevelGraph, shorter: Callable[[int], LevelGraph | None]) -> Rounds:
    """What to run for a graph: one with fewer rounds, if that says all. shorter: the program with at most so many
    rounds of each repeat."""
    whole = Rounds.of(graph)
    few = 3 if loss_learns(graph) else 2  # the gradient of a replay ends in the first round
    deep = {repeat: n for repeat, n in repeats(graph.memories).items() if n > few}
    short = shorter(few) if len(deep) == 1 else None
    if short is None:
        return whole
    [(repeat, count)] = deep.items()
    found = Rounds(short, Owners.of(short), repeat, few, count - few + 1)
    same_levels = {found.owners.fold(n): v for n, v in found.owners.levels.items()} == {
        whole.owners.fold(n): v for n, v in whole.owners.levels.items()
    }
    return found if same_levels and _counts(found) == _counts(whole) else whole


def _counts(found: Rounds) -> Counter[str]:
    """How many records and parameters there are, by folded owner."""
    counts: Counter[str] = Counter()
    for name in found.owners.names:
        counts[found.owners.fold(found.owners.owner(name))] += found.factor(name)
    for name, p in learned_parameters(found.graph).items():
        counts["numbers of " + found.owners.fold(found.owners.owner(name))] += found.factor(name) * p.size
    return counts
