"""Every parameter and every state of a program, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nldsl.graph import Body, Leaf, LevelGraph, Memory, Objective, Record
from nldsl.naming import snake


@dataclass(frozen=True, slots=True)
class Parameter:
    """A leaf whose start is learned (`learned`) or drawn once. `rule_of` is (memory, leaf) served, for memories inside
    an optimizer or a retention."""

    memory: str
    leaf: Leaf
    heads: int
    learned: bool
    form: str
    rule_of: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        return f"{self.memory}.{self.leaf.name}"

    @property
    def size(self) -> int:
        return max(1, self.heads) * math.prod(self.leaf.shape)


def has_parameters(memory: Memory) -> bool:
    """Whether a memory's start is learned: directly, or as the `start` of its `from f(start)`."""
    if memory.form == "state" or memory.start == "constant":
        return False
    return memory.start == "learned" or any(p.id == "start" for body in memory.starts for p in body.inputs)


def rule_memory(memory: str, leaf: str, rule: str, inner: str) -> str:
    """The path of a memory inside the rule that serves `memory.leaf`."""
    return f"{memory}.{leaf}.{snake(rule)}.{inner}"


def parameters(
    records: Sequence[Record], bodies: Mapping[str, Body], clock: tuple[str, ...] = ("token", "update")
) -> Iterator[Parameter]:
    """All leaves with a start, outermost first, then those inside the rules of learns on these clocks."""
    memories = {m.id: m for m in records if isinstance(m, Memory)}
    for memory in memories.values():
        for leaf in memory.leaves:
            yield Parameter(memory.id, leaf, memory.heads, has_parameters(memory), memory.form)
    for learn in records:
        if isinstance(learn, Objective) and learn.every.unit in clock:
            heads = {m: memories[m].heads for m in learn.memories if m in memories}
            yield from rule_parameters(learn, heads, bodies)


def rule_parameters(learn: Objective, heads: Mapping[str, int], bodies: Mapping[str, Body]) -> Iterator[Parameter]:
    """The memories and states inside a learn's rules, one set per weight served."""
    for rule in (learn.optimizer, learn.retention):
        if rule is None:
            continue
        inside = {name: list(parameters(bodies[name].records, bodies)) for name in {b for _, _, b in rule.bodies}}
        for memory, leaf, name in rule.bodies:
            for p in inside[name]:
                path = rule_memory(memory, leaf, rule.name, p.memory)
                outer = p.rule_of if p.rule_of != ("", "") else (memory, leaf)
                count = max(1, heads.get(memory, 0)) * p.heads if p.heads else heads.get(memory, 0)
                yield Parameter(path, p.leaf, count, p.learned, p.form, outer)


def learned_parameters(graph: LevelGraph) -> dict[str, Parameter]:
    """The parameters of a program: what a step-clock learn may claim, by name."""
    return {p.name: p for p in parameters(graph.tick.records, graph.bodies) if p.learned}
