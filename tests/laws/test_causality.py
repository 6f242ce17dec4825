"""A program that checks never reads the future: change a later tick's input, and nothing earlier changes."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from laws.programs import Inputs, Program, Runner, changed, cut, laws, machine, noticed, using, valid_programs
from nldsl.compiler.reference import Interpreter

TICKS = 6


def causal(program: Program, inputs: Inputs, runner: Runner, at: int) -> None:
    """Outputs before tick `at`, and losses whose target is before it, are the same whatever comes at `at` and later."""
    made, other = machine(program.graph(), runner), changed(inputs, at)
    with torch.no_grad():
        before, after = made.run(inputs)[0], made.run(other)[0]
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a[:, :at], b[:, :at]), program.text
        if program.model:
            known = at - 1 if program.ahead else at
            for a, b in zip(made.losses(inputs)[0], made.losses(other)[0], strict=True):
                assert torch.equal(torch.stack([*a[:known], torch.ones(())]), torch.stack([*b[:known], torch.ones(())]))


@laws(40)
@given(valid_programs(), st.integers(1, TICKS - 1))
def test_nothing_reads_the_future(program: Program, at: int) -> None:
    causal(program, program.inputs(TICKS), Interpreter, at)


# Mutants: a leak


class Ahead(Interpreter):
    """Sees each tick's input one tick early."""

    def _named(self, inputs: Any) -> dict[str, torch.Tensor]:
        return {name: torch.roll(x, -1, dims=1) for name, x in super()._named(inputs).items()}


class ChunkLeak(Interpreter):
    """Reads every memory as the next tick leaves it, like a chunk whose mask is missing."""

    def run(self, inputs: Any, state: Any = None, *rest: Any, **named: Any) -> tuple[list[torch.Tensor], Any]:
        ticks = next(iter(inputs.values())).shape[1]
        ahead, pieces = state, []
        for t in range(ticks):
            now = cut(inputs, t, t + 1)
            later = super().run(cut(inputs, t, t + 2), ahead)[1]
            early = self.initial_state(len(later)) if ahead is None else ahead
            seen = [a | {"frame": b["frame"]} for a, b in zip(early, later, strict=True)]
            pieces.append(super().run(now, seen)[0])
            ahead = super().run(now, ahead)[1]
        return [torch.cat(outs, dim=1) for outs in zip(*pieces, strict=True)], ahead


def test_a_leak_of_the_next_input_is_noticed() -> None:
    def law(program: Program) -> None:
        causal(program, program.inputs(TICKS), Ahead, 3)

    assert noticed(law, using(most=8))


def test_a_leak_inside_a_chunk_is_noticed() -> None:
    def law(program: Program) -> None:
        causal(program, program.inputs(TICKS), ChunkLeak, 3)

    skipped = ("loss on tokens", "reset when", "reset every", "repeat")
    assert noticed(law, using("every token", "read above", without=skipped, most=5))
