"""Programs on which two sound ways to compute may differ, by what the reference interpreter alone says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from laws.programs import Inputs, Program, machine
from nldsl.compiler.reference import machine as ticks
from torch import Tensor

from compiler.agreement import Reference, errors, of_reference, wrong
from compiler.comparisons import Compared
from nldsl.graph import LevelGraph, Stream
from nldsl.torch_forms import Call

LARGEST = 1e3  # beyond it a program is on its way to infinity
MARGIN = 1e-8  # from a threshold: any closer, and rounding decides
AMPLIFIED = 1e-11  # how much of a result may be the reference's own rounding


def ill_posed(graph: LevelGraph, inputs: Inputs) -> str:
    """Why two sound ways to compute a program may differ on these inputs, or ""."""
    reference = machine(graph, Reference)
    assert isinstance(reference, Reference)
    with margins() as found:
        exact, _ = of_reference(reference, inputs)
    for name, value in exact.items():
        largest = torch.inf if name.startswith("gradient") else LARGEST
        if not (value.isfinite() & (value.abs() <= largest)).all():
            return "large numbers"
    if min(found, default=1.0) < MARGIN:
        return "a threshold"
    rough = Reference(graph, dtype=torch.float32)
    for name, value in reference.parameters.items():
        rough.parameters[name].data.copy_(value.data)
    error = max(errors(of_reference(rough, inputs)[0], exact).values())
    return "" if error / 6e-8 * 1e-16 <= AMPLIFIED else "rounding"


@contextmanager
def margins() -> Iterator[list[float]]:
    """How close the interpreter comes to where a primitive jumps or has a kink."""
    found: list[float] = []
    apply = ticks.apply

    def watched(stream: Stream, args: list[Any], call: Call) -> Tensor:
        if stream.op in JUMPS:
            a, b = JUMPS[stream.op](args)
            gap = (torch.as_tensor(a) - torch.as_tensor(b)).detach().abs()
            whole = all(bool((x == x.round()).all()) for x in map(torch.as_tensor, (a, b)) if x.is_floating_point())
            if stream.op not in WHOLE or not whole:
                found.append(float(gap.min()))
        return apply(stream, args, call)

    with patch.object(ticks, "apply", watched):
        yield found


WHOLE = ("lt", "le", "gt", "ge", "eq", "ne")  # exact on whole numbers, like those of ticks
JUMPS: dict[str, Callable[[list[Any]], Any]] = {op: lambda args: args[:2] for op in (*WHOLE, "minimum", "maximum")}
JUMPS |= {op: lambda args: (args[0], 0.0) for op in ("abs", "sign", "relu")}


# Many programs


def excuse(compared: Compared) -> str:
    """Why a program that is far from the reference may be, or ""."""
    return next((why for text in compared.texts if (why := ill_posed(compared.program.graph(), text))), "")


@dataclass
class Tally:
    """What became of the programs of a law."""

    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def judge(self, compared: Compared) -> None:
        """Fails if a program is far from the reference and has no excuse; one is only looked for then."""
        far = wrong(compared.found)
        if not far:
            self.kept += 1
            return
        why = excuse(compared)
        assert why, far
        self.skipped[why] += 1

    @property
    def share(self) -> float:
        """Of the programs that could be compared."""
        return self.kept / (self.kept + self.skipped.total())


@contextmanager
def naming(program: Program) -> Iterator[None]:
    """Whatever goes wrong, the program's text is shown."""
    try:
        yield
    except Exception as error:
        error.add_note(f"\n{program.text}")
        raise
