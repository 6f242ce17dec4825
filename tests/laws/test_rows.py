"""The rows of a batch are independent: each is what it is alone, and knows nothing of the others."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from laws.programs import Inputs, Program, Runner, changed, cut, laws, machine, noticed, using, valid_programs
from nldsl.compiler.reference import Interpreter

TICKS = 6


def independent(program: Program, inputs: Inputs, runner: Runner) -> None:
    """Bit by bit: outputs, losses and running weights of a row, alone and beside another."""
    made = machine(program.graph(), runner)
    with torch.no_grad():
        outs, state = made.run(inputs)
        beside = made.run(changed(inputs, row=1))[0]
        for a, b in zip(outs, beside, strict=True):
            assert torch.equal(a[0], b[0]), program.text
        losses = made.losses(inputs)[0] if program.model else None
        for row in range(len(state)):
            alone = {name: x[row : row + 1] for name, x in inputs.items()}
            single, own = made.run(alone)
            for a, b in zip(outs, single, strict=True):
                assert torch.equal(a[row], b[0]), program.text
            together, apart = made.weights(state, row), made.weights(own)
            assert together.keys() == apart.keys()
            assert all(torch.equal(value, apart[name]) for name, value in together.items()), program.text
            if losses is not None:
                assert torch.equal(torch.stack(losses[row]), torch.stack(made.losses(alone)[0][0])), program.text


@laws(40)
@given(valid_programs())
def test_rows_are_independent(program: Program) -> None:
    independent(program, program.inputs(TICKS), Interpreter)


# Mutants: a memory shared between the rows


class HandedOn(Interpreter):
    """Each row begins with what the row before it has learned."""

    def run(self, inputs: Any, state: Any = None, *rest: Any, **named: Any) -> tuple[list[torch.Tensor], Any]:
        begun = self.initial_state(len(next(iter(inputs.values())))) if state is None else state
        outs, after, before = [], [], None
        for row, own in enumerate(begun):
            first = own if before is None else own | {"frame": before}
            made, (last,) = super().run({name: x[row : row + 1] for name, x in inputs.items()}, [first])
            outs.append(made)
            after.append(last)
            before = last["frame"]
        return [torch.cat(rows) for rows in zip(*outs, strict=True)], after


class OneForAll(Interpreter):
    """One memory for the whole batch: after each tick every row has the mean of all."""

    def run(self, inputs: Any, state: Any = None, *rest: Any, **named: Any) -> tuple[list[torch.Tensor], Any]:
        pieces = []
        for t in range(next(iter(inputs.values())).shape[1]):
            outs, state = super().run(cut(inputs, t, t + 1), state)
            pieces.append(outs)
            state = [row | {"frame": mean([r["frame"] for r in state])} for row in state]
        return [torch.cat(outs, dim=1) for outs in zip(*pieces, strict=True)], state


def mean(values: list[Any]) -> Any:
    """The mean of every tensor of several nested values."""
    first = values[0]
    if isinstance(first, torch.Tensor) and first.is_floating_point():
        return torch.stack(values).mean(0)
    if isinstance(first, dict):
        return {key: mean([v[key] for v in values]) for key in first if all(key in v for v in values)}
    if isinstance(first, list | tuple) and all(len(v) == len(first) for v in values):
        return type(first)(mean(list(items)) for items in zip(*values, strict=True))
    return first


def test_a_state_handed_from_row_to_row_is_noticed() -> None:
    def law(program: Program) -> None:
        independent(program, program.inputs(TICKS), HandedOn)

    skipped = ("loss on tokens", "reset when", "reset every", "repeat")
    assert noticed(law, using("every token", "read above", without=skipped, most=5))


def test_a_memory_shared_by_all_rows_is_noticed() -> None:
    def law(program: Program) -> None:
        independent(program, program.inputs(TICKS), OneForAll)

    without = ("loss on tokens", "reset when", "reset every", "over", "times", "repeat")
    plain = using("every token", "read above", without=without, most=5)
    assert noticed(law, plain)
