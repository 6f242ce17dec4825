"""What a token costs that is read by itself: the mean over the kinds of ticks, as chunks and windows end at some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nldsl.compiler.cost.measured import Measured
from nldsl.compiler.cost.runs import Subject
from nldsl.compiler.distribute import Loop, Stage
from nldsl.compiler.runner import Runner
from nldsl.compiler.segments import loss_learns

from nldsl.graph import LevelGraph, Memory, Objective, Stream

MOST = 1 << 16  # ticks that are looked at for their kinds
FEW = 6  # chunks


@dataclass(frozen=True)
class Kind:
    """Ticks that do the same. tick: one of them. ahead: how many ticks it is behind a place like the one where reading
    begins. share: how many of all ticks are of this kind."""

    tick: int
    ahead: int
    share: float


def reading(subject: Subject, length: int) -> Measured:
    """The mean cost of one more token of each sequence, and the state, both after `length` of them.

    Every kind of tick is run once. What a tick does depends on its number only by where it lies in the periods, so the
    state of the ticks before it is moved on to that number.
    """
    state = subject.read(length - 1, {}, 0)
    last, state = subject.decoding(state, length - 1)
    total, most, place = Measured(), last, 0
    short = chunk_of_segment(subject)
    for kind in kinds(subject, length):
        if short and closes(subject, kind.tick):
            found = closing(subject, short)
        else:
            state = subject.read(kind.ahead - place, state, kind.tick - kind.ahead + place)
            place = kind.ahead
            found, _ = subject.decoding(state, kind.tick)
        total.add(Measured(found.works), kind.share)
        most = max(most, found, key=lambda found: found.peak)
    return Measured(total.works, most.alive, last.state)


# The end of a loss segment, at which all of it is run again


def closes(subject: Subject, tick: int) -> bool:
    segment = subject.runner.segment
    return bool(segment) and (tick if subject.runner.loss.ahead else tick + 1) % segment == 0


def chunk_of_segment(subject: Subject) -> int:
    """The length of the chunks that a segment is made of, where its end costs the same for each of them; 0 where it
    doesn't, or they are few: what attention costs grows, and a learn may look at more than one segment."""
    attention = any(m.form == "attention" for m in subject.graph.memories.values())
    chunk, segment = math.lcm(*lengths_of(subject.module.plan.stages)), subject.runner.segment
    alone = not any(o.through for o in loss_learns(subject.graph))
    return chunk if not attention and alone and segment % chunk == 0 and segment > FEW * chunk else 0


def closing(subject: Subject, chunk: int) -> Measured:
    """The tick at which a segment ends, from segments of three and of four chunks: in shorter ones not every chunk has
    one before it and one behind it through which gradients come."""
    whole = subject.runner.segment
    found = []
    for count in (3, 4):
        subject.runner.segment = count * chunk
        last = count * chunk - (not subject.runner.loss.ahead)
        found.append(subject.decoding(subject.read(last, {}, 0), last)[0])
    subject.runner.segment = whole
    total = Measured()
    total.add(found[0], 4 - whole / chunk)
    total.add(found[1], whole / chunk - 3)
    return total


def kinds(subject: Subject, length: int) -> list[Kind]:
    """The kinds of the ticks from `length` on, those first that are reached first."""
    chunks = set(lengths_of(subject.module.plan.stages)) | {subject.runner.segment or 1}
    begins, ends = periods_of(subject.graph, subject.runner)
    begins |= chunks
    align, count = math.lcm(*chunks), min(MOST, math.lcm(*begins, *ends))
    found: dict[tuple[bool, ...], list[int]] = {}
    for tick in range(length, length + count):
        places = (*(tick % p == 0 for p in begins), *((tick + 1) % p == 0 for p in ends))
        found.setdefault(places, []).append(tick)
    chosen = []
    for ticks in found.values():
        tick = min(ticks, key=lambda t: (t - length) % align)
        chosen.append(Kind(tick, (tick - length) % align, len(ticks) / count))
    return sorted(chosen, key=lambda kind: kind.ahead)


def periods_of(graph: LevelGraph, runner: Runner) -> tuple[set[int], set[int]]:
    """The periods of which something happens at the first tick, and those of which it does at the last. Of what learns
    from the loss only the segment counts: to run it again is the work, beside which a write at its end is little."""
    begins, ends = {1}, {1}
    (begins if runner.loss.ahead else ends).add(runner.segment)
    for record in graph.tick.records:
        if isinstance(record, Objective) and record.every.unit == "token":
            ends |= {record.every.count} if record.kind != "loss" else set()
            begins.add(record.hold_length)
        elif isinstance(record, Stream):
            ends.add(record.every)
        elif isinstance(record, Memory):
            begins.add(record.reset_every)
    return begins - {0}, ends - {0}


def lengths_of(stages: Sequence[Stage]) -> Iterator[int]:
    """The lengths of all loops."""
    for stage in stages:
        if isinstance(stage, Loop):
            yield stage.length
            yield from lengths_of(stage.stages)
