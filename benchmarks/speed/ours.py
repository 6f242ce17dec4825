"""Our sides: programs of the library and of `benchmarks/programs/`, as `nldsl.compile` gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nldsl
from benchmarks.speed.jobs import DIM, HEADS, VOCAB, Job, block_job, forget, tokens

WARMING = 10  # steps: what has run eight times is traced then, and some bodies run once in a step
PROGRAMS = Path(__file__).resolve().parent.parent / "programs"


def block(program: str, length: int, **options: Any) -> Job:
    """program: `std.titans:LMM`, or `unnamed.nl:Unnamed` of the folder of programs. options: hyper-parameters, and
    those of `nldsl.compile`."""
    place = program if program.startswith("std.") else f"{PROGRAMS / program}"
    return block_job(nldsl.compile(place, dim=DIM, heads=HEADS, **options), length)


def model(program: str, length: int, **options: Any) -> Job:
    """A language model with its own loss, by `module.backward`, as it is trained."""
    module = nldsl.compile(program, vocab=VOCAB, dim=DIM, heads=HEADS, **options)
    ids = tokens(length)

    def step() -> None:
        forget(module)
        module.backward(ids)

    return Job(module, step)
