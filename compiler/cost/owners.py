"""Whose a record's work is: that of a memory or of a learn, and so of a level and of a block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nldsl.diagram.fold import Folding
from nldsl.graph import LevelGraph, Memory, Objective, Stream
from nldsl.parameters import learned_parameters

REST = "rest"


@dataclass(frozen=True)
class Owners:
    """The owner of each record and parameter of a graph, by name; of what is not in it, "".

    A stream that reads a memory belongs to it, and so does one that is computed with nothing but a weight of it; any
    other one belongs with the record before it.
    """

    names: dict[str, str]
    levels: dict[str, int]
    fold: Folding

    @classmethod
    def of(cls, graph: LevelGraph) -> Owners:
        names: dict[str, str] = {}
        weights: dict[str, str] = {}  # streams made of nothing but weights
        last = ""
        for record in graph.tick.records:
            if isinstance(record, Stream):
                own = record.memory or next((weights[a] for a in map(str, record.args) if a in weights), "")
                if record.op == "weight" or (own and all(a in weights for a in record.args if isinstance(a, str))):
                    weights[record.id] = own
                last = own or last
                names[record.id] = last
            elif isinstance(record, Memory | Objective):
                names[record.id] = last = record.id
        for name, p in learned_parameters(graph).items():
            names[name] = p.rule_of[0] or p.memory
        levels = {owner: int(graph.nodes[owner]["level"]) for owner in {*names.values()} - {""}}
        return cls(names, levels, Folding.of(names.values()))

    def owner(self, record: str) -> str:
        return self.names.get(record, "")

    def level(self, record: str) -> int:
        """0 for what belongs to no level."""
        return self.levels.get(self.owner(record), 0)

    def block(self, record: str) -> str:
        """The part of the text that an owner stands in: `layers.*.cms` of `layers.3.cms.F_512`, `logits` of
        `logits.linear`."""
        return block_of(self.fold(self.owner(record)))


def block_of(folded: str) -> str:
    """The first name of a path, or the first behind the rounds of a repeat."""
    if not folded or " " in folded.split(".")[0]:
        return folded or REST
    parts = folded.split(".")
    rounds = max((i for i, part in enumerate(parts) if part == "*"), default=-1)
    return ".".join(parts[: rounds + 2])


def repeats(names: Iterable[str]) -> dict[str, int]:
    """Of each repeat how many rounds it has: `layers` -> 12."""
    fold = Folding.of(names)
    found: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        for i in range(1, len(parts)):
            prefix = ".".join(parts[:i])
            if prefix in fold.repeats and parts[i].isdecimal():
                found.setdefault(prefix, set()).add(parts[i])
    return {prefix: len(rounds) for prefix, rounds in found.items()}
