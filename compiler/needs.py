"""What a stage reads and gives, and what the number of its first tick decides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import stages
from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Stage
from nldsl.compiler.piece import Frame, Piece
from nldsl.compiler.signature import Names, signature

from nldsl.graph import Body, Memory, Objective, Stream


@dataclass(frozen=True)
class Needs:
    """What a body reads: values made elsewhere, entries of the frame, memories whose parameters it uses; and the values
    it gives. kind: what it does, without names; stages of a kind share their bodies. names: what these stand for.
    periods: what happens every so many ticks; restarts: whether a memory does."""

    values: tuple[str, ...]
    frame: tuple[str, ...]
    memories: tuple[str, ...]
    gives: tuple[str, ...]
    kind: Any
    names: Names
    periods: tuple[int, ...]
    restarts: bool

    def phase(self, number: Any) -> tuple[Any, ...]:
        """What the number of a piece's first tick decides."""
        return self.restarts and number == 0, *(number % n for n in self.periods)

    def after(self, frame: Frame, own: Frame) -> Frame:
        """A frame after a body that left this of its own entries."""
        return {n: v for n, v in frame.items() if n not in self.frame} | own


def needs_of(stage: Stage, nodes: Sequence[Node], machine: Any) -> Needs:
    """What these records read and give."""
    gives = machine.gives(nodes)
    made = stages.given(nodes)
    values = stages.used(nodes, machine.shape.taken) - made
    memories = memories_of(nodes, machine.shape.memories)
    frame: set[str] = {record.id for record, _ in nodes if not _noted(record)}
    for learn in machine.shape.learns.values():
        if learn.every.unit != "step" and memories & set(learn.memories):
            frame.add(learn.id)
    kind, names = signature(stage, _context(memories, machine), machine.bodies, machine.told)

    def ordered(found: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(found, key=lambda name: (len(names.canonical(name)), names.canonical(name))))

    periods = tuple(sorted(set(_periods(nodes, memories, machine)) - {0, 1}))
    restarts = any(machine.shape.memories[m].reset_every for m in memories)
    return Needs(
        ordered(values), ordered(frame | memories), ordered(memories), ordered(gives), kind, names, periods, restarts
    )


def memories_of(nodes: Iterable[Node], known: Mapping[str, Memory]) -> set[str]:
    """The memories that records open, write or read, and those that these start from."""
    return {m for record, _ in nodes for m in _memories(record, known)}


def _context(memories: set[str], machine: Any) -> Iterator[Any]:
    """Records elsewhere in the tick that have a say in what happens to these memories."""
    for record in machine.shape.concerned:
        learns = isinstance(record, Objective) and record.every.unit != "step" and memories & set(record.memories)
        serves = isinstance(record, Stream) and record.attr("serves", "") in memories
        writes = isinstance(record, Stream) and record.op in ("assign", "recall") and record.memory in memories
        if (isinstance(record, Memory) and record.id in memories) or learns or serves or writes:
            yield record


def _memories(record: Any, known: Mapping[str, Memory]) -> Iterator[str]:
    if isinstance(record, Memory):
        yield record.id
        yield from _read([*record.starts], known)
    elif isinstance(record, Objective) and not _noted(record):
        yield from record.memories
        yield from _read(record.bodies, known)
    elif isinstance(record, Stream) and record.memory:
        yield record.memory
        yield from _read(known[record.memory].starts, known)
    if isinstance(record, Stream) and record.attr("serves"):
        yield str(record.attr("serves"))


def _noted(record: Any) -> bool:
    """Whether all that a record does is to note what a learn from `loss` needs when its segment closes."""
    return isinstance(record, Objective) and record.kind == "loss"


def _read(bodies: Sequence[Body], known: Mapping[str, Memory]) -> Iterator[str]:
    for body in bodies:
        for record in body.records:
            if isinstance(record, Stream) and record.memory in known:
                yield record.memory
                yield from _read(known[record.memory].starts, known)


def _periods(nodes: Sequence[Node], memories: Collection[str], machine: Any) -> Iterator[int]:
    """After how many ticks something happens. memories: all that the records read or write; windows begin where they
    restart, and their learns take hold of them, wherever these stand."""
    yield from (machine.shape.memories[m].reset_every for m in memories)
    for record, _ in nodes:
        if isinstance(record, Objective):
            yield record.every.count if record.every.unit == "token" else 0
            yield from _rule_periods(record, machine)
        elif isinstance(record, Stream):
            yield record.every
    learns = machine.shape.learns.values()
    yield from (o.hold_length for o in learns if o.hold and not set(memories).isdisjoint(o.memories))


def _rule_periods(learn: Objective, machine: Any) -> Iterator[int]:
    """After how many updates the states of a learn's rules begin anew."""
    for rule in (learn.optimizer, learn.retention):
        for _, _, name in rule.bodies if rule else ():
            yield from (r.reset_every for r in machine.bodies[name].records if isinstance(r, Memory))


def mode(piece: Piece) -> tuple[Any, ...]:
    """What decides how a body computes, besides its text and shapes."""
    return piece.batch, piece.clock.device, piece.machine.low, torch.is_grad_enabled()
