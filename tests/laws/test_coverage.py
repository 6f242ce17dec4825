"""What the laws have seen: how often each clause of the language stands in the generated programs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from laws.programs import CLAUSES, Program, checked, laws, machine, programs, valid_programs

DRAWN, LEAST, VALID = 500, 20, 0.95


def test_every_clause_occurs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each clause of rules 2 to 19 at least 20 times; at least 95 in 100 programs check without errors."""
    seen: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    drawn = 0

    @laws(DRAWN)
    @given(programs())
    def draw(program: Program) -> None:
        nonlocal drawn
        drawn += 1
        errors = checked(program.text).findings.errors
        if errors:
            wrong.append((f"{errors[0].code} {errors[0].message}", program.text))
        else:
            seen.update(program.clauses)

    draw()
    with capsys.disabled():
        print(f"\n{drawn} programs, {len(wrong)} of them with errors {[w for w, _ in wrong[:3]]}\n{table(seen)}")
    assert len(wrong) <= (1 - VALID) * drawn, wrong[0]
    rare = {clause: seen[clause] for clauses in CLAUSES.values() for clause in clauses if seen[clause] < LEAST}
    assert not rare


def table(seen: Counter[str]) -> str:
    """One line per rule."""
    return "\n".join(
        f"{rule:4}  " + ", ".join(f"{clause} {seen[clause]}" for clause in clauses) for rule, clauses in CLAUSES.items()
    )


@laws(25)
@given(valid_programs())
def test_generated_programs_train(program: Program) -> None:
    """Two steps of training: the loss and every parameter stay numbers. (Blocks are run.)"""
    made = machine(program.graph())
    if not program.steps:
        assert all(torch.isfinite(out).all() for out in made.run(program.inputs(6))[0]), program.text
        return
    for step in range(2):
        loss, _ = made.step(program.inputs(6, seed=step))
        assert torch.isfinite(loss), program.text
    assert all(torch.isfinite(value).all() for value in made.parameters.values()), program.text
