"""The graph's text reads back to an equal graph, with the same meaning; where a read stands is part of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from laws.programs import Inputs, Program, Runner, laws, machine, noticed, using, valid_programs
from nldsl.compiler.reference import Interpreter

from nldsl.graph import LevelGraph, Objective, Record, Stream
from nldsl.graph_text import read_graph, show_graph

TICKS = 7


def readable(program: Program, read: Callable[[str], LevelGraph]) -> None:
    """Printed and read back, a graph is equal to what it was, and prints the same."""
    graph = program.graph()
    text = show_graph(graph)
    again = read(text)
    assert again == graph, program.text
    assert show_graph(again) == text


def same_meaning(graph: LevelGraph, other: LevelGraph, inputs: Inputs, runner: Runner) -> None:
    """Two graphs give the same outputs, bit by bit."""
    with torch.no_grad():
        ours, theirs = machine(graph, runner).run(inputs)[0], machine(other, runner).run(inputs)[0]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b), graph.program


@laws(80)
@given(valid_programs())
def test_a_graph_reads_back_as_it_was(program: Program) -> None:
    readable(program, read_graph)


@laws(15)
@given(valid_programs())
def test_a_graph_read_back_means_the_same(program: Program) -> None:
    graph = program.graph()
    same_meaning(graph, read_graph(show_graph(graph)), program.inputs(TICKS), Interpreter)


# Mutants: something lost on the way


@pytest.mark.parametrize(
    ("lost", "clause"),
    [
        (" lag=1", "next"),
        (" mode=running", "write above"),
        (" detached=true", "detached"),
        (" hold=state", "hold state"),
        (" times=2", "times"),
        (" reset_every=3", "reset every"),
    ],
)
def test_what_is_lost_between_printing_and_reading_is_noticed(lost: str, clause: str) -> None:
    def law(program: Program) -> None:
        readable(program, lambda text: read_graph(text.replace(lost, "")))

    assert noticed(law, (p for p in using(clause, most=60) if lost in show_graph(p.graph())))


# Mutants: a read on the other side of its learn


def read_earlier(graph: LevelGraph) -> LevelGraph | None:
    """The first read below a learn of its memory, moved above it."""
    records = list(graph.tick.records)
    for i, learn in enumerate(records):
        if _moves(learn):
            for j, read in enumerate(records[i:], i):
                if _reads(read, learn):
                    return _with(graph, [*records[:i], read, *records[i:j], *records[j + 1 :]])
    return None


def learn_earlier(graph: LevelGraph) -> LevelGraph | None:
    """The first learn that needs nothing of a read above it, moved above that read."""
    records = list(graph.tick.records)
    for j, learn in enumerate(records):
        for i, read in enumerate(records[:j]):
            if _moves(learn) and _reads(read, learn):
                known = {p.id for p in graph.tick.inputs} | {r.id for r in records[:i]}
                if _needs(learn) <= known:
                    return _with(graph, [*records[:i], learn, *records[i:j], *records[j + 1 :]])
    return None


def _moves(record: Record) -> bool:
    return isinstance(record, Objective) and record.kind == "local" and record.every.unit == "token"


def _reads(record: Record, learn: Record) -> bool:
    assert isinstance(learn, Objective)
    return isinstance(record, Stream) and record.op == "weight" and record.memory in learn.memories and (
        record.mode == "seen"
    )  # fmt: skip


def _needs(learn: Record) -> set[str]:
    assert isinstance(learn, Objective) and learn.optimizer is not None and learn.retention is not None
    streams = {p.stream for body in learn.bodies for p in body.inputs} | {*learn.optimizer.args, *learn.retention.args}
    streams |= {s for s in (learn.when, learn.over_weight, *learn.weights) if isinstance(s, str)}
    return streams - {""}


def _with(graph: LevelGraph, records: list[Record]) -> LevelGraph:
    other = copy.copy(graph)
    other.tick = replace(graph.tick, records=tuple(records))
    return other


@pytest.mark.parametrize(("mutant", "clause"), [(read_earlier, "read below"), (learn_earlier, "read above")])
def test_a_read_on_the_other_side_of_its_learn_is_noticed(
    mutant: Callable[[LevelGraph], LevelGraph | None], clause: str
) -> None:
    def law(program: Program) -> None:
        graph = program.graph()
        other = mutant(graph)
        assert other is not None
        same_meaning(graph, other, program.inputs(TICKS), Interpreter)

    skipped = ("hold state", "when", "when per head", "reset every", "reset when", "repeat", "learn * on tokens")
    plain = using(clause, "every token", without=skipped, most=100)
    assert noticed(law, islice((p for p in plain if mutant(p.graph()) is not None), 5))
