"""One run equals the same text run in pieces with carried state, wherever it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws.programs import Inputs, Program, Runner, cut, gap, laws, machine, noticed, using, valid_programs
from nldsl.compiler.reference import Interpreter

TICKS = 8
TOLERANCE = 1e-12


def carried(program: Program, inputs: Inputs, runner: Runner, cuts: Sequence[int]) -> None:
    """Outputs, losses and the running weights at the end, run at once and cut before these ticks."""
    made = machine(program.graph(), runner)
    ticks = next(iter(inputs.values())).shape[1]
    with torch.no_grad():
        outs, after = made.run(inputs)
        losses = made.losses(inputs)[0]
        state: Any = None
        parts: list[list[torch.Tensor]] = []
        known: list[list[torch.Tensor]] = [[] for _ in after]
        for begin, end in pairwise([0, *sorted(set(cuts)), ticks]):
            piece = cut(inputs, begin, end)
            for row, more in zip(known, made.losses(piece, state)[0], strict=True):
                row.extend(more)
            part, state = made.run(piece, state)
            parts.append(part)
        for whole, *pieces in zip(outs, *parts, strict=True):
            assert gap(torch.cat(pieces, dim=1), whole) <= TOLERANCE, (cuts, program.text)
        for row, expected in enumerate(losses):
            assert len(known[row]) == len(expected)
            if expected:
                assert gap(torch.stack(known[row]), torch.stack(expected)) <= TOLERANCE, (cuts, program.text)
            first, last = made.weights(after, row), made.weights(state, row)
            assert first.keys() == last.keys()
            assert all(gap(last[name], value) <= TOLERANCE for name, value in first.items()), (cuts, program.text)


@laws(40)
@given(valid_programs(), st.sets(st.integers(1, TICKS - 1), min_size=1, max_size=3))
def test_a_run_in_pieces_is_the_same_run(program: Program, cuts: set[int]) -> None:
    carried(program, program.inputs(TICKS), Interpreter, sorted(cuts))


# Mutants: a lost carry


def without(kept: Any, part: str) -> Any:
    """A state with one kind of thing set back to nothing, wherever it is kept."""
    if isinstance(kept, dict):
        return {k: nothing(v) if k == part else without(v, part) for k, v in kept.items()}
    return kept


def nothing(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return {k: nothing(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(nothing(v) for v in value)
    return value


def losing(part: str) -> Runner:
    class Losing(Interpreter):
        """Forgets one part of the state at the end of every call."""

        def run(self, *given: Any, **named: Any) -> tuple[list[torch.Tensor], Any]:
            outs, state = super().run(*given, **named)
            return outs, [row | {"frame": without(row["frame"], part)} for row in state]

    return Losing


# part of a frame -> the programs that have it
CARRIED = {
    "past": ("conv",),  # the tail of a convolution
    "weights": ("every token",),
    "sum": ("every N tokens",),  # the gradients of an open window
    "rows": ("window_mean",),  # the ticks of an open window's aggregate
    "rules": ("optimizer state",),
    "anchor": ("hold state",),
    "buffer": ("over",),
    "pairs": ("attention",),
}


@pytest.mark.parametrize("part", CARRIED)
def test_a_lost_carry_is_noticed(part: str) -> None:
    def law(program: Program) -> None:
        for at in (3, 5):
            carried(program, program.inputs(TICKS), losing(part), [at])

    skipped = ("reset every", "reset when", "repeat", "learn * on tokens")
    assert noticed(law, using(*CARRIED[part], without=skipped, most=20))


class Forgetful(Interpreter):
    """Begins the open segment of the loss anew in every call."""

    def run(self, *given: Any, **named: Any) -> tuple[list[torch.Tensor], Any]:
        outs, state = super().run(*given, **named)
        for row in state:
            if "segments" in row:
                row["segments"] = tuple(s | {"inputs": nothing(s["inputs"])} for s in row["segments"])
        return outs, state


def test_a_lost_segment_is_noticed() -> None:
    def law(program: Program) -> None:
        for at in (1, 3, 5):
            carried(program, program.inputs(TICKS), Forgetful, [at])

    skipped = ("reset every", "reset when", "repeat", "learn * on tokens")
    assert noticed(law, using("loss on tokens", without=skipped, most=20))
