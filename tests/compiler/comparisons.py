"""The ways in which a compiled program is compared: all at once, cut in pieces, and with gaps in its texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from laws.programs import Inputs, Program, cut
from library.test_programs import EXAMPLES, SMALL
from nldsl.compiler.module import CompiledModule
from torch import Tensor

import nldsl
from compiler.agreement import (
    Build,
    Reference,
    Seen,
    compiled,
    errors,
    gradients,
    of_module,
    of_reference,
    opened,
    pair,
    shown,
)
from nldsl.graph import LevelGraph
from nldsl.modules import library
from nldsl.program import front_end
from nldsl.syntax.parse import parse


@dataclass(frozen=True)
class Compared:
    """found: how far everything is from the reference, by name. texts: what the program was run on."""

    program: Program
    found: dict[str, float]
    texts: tuple[Inputs, ...]


def at_once(program: Program, ticks: int, build: Build = compiled) -> Compared:
    inputs = program.inputs(ticks)
    reference, module = pair(program.graph(), build)
    found = errors(of_module(module, inputs)[0], of_reference(reference, inputs)[0])
    return Compared(program, found, (inputs,))


# Cut anywhere: a prefill and what follows are one run


def in_pieces(program: Program, ticks: int, cuts: Iterable[Iterable[int]], build: Build = compiled) -> Compared:
    """Runs in pieces, cut before these ticks, against one run of the reference; and the gradients of a second half."""
    inputs = program.inputs(ticks)
    reference, module = pair(program.graph(), build)
    found: dict[str, float] = {}
    with torch.no_grad():
        whole, _ = of_reference(reference, inputs)
        for places in map(list, cuts):
            here = errors(_pieces(module, inputs, places), whole)
            found |= {f"{n}, cut at {places}": e for n, e in here.items()}
    begin = ticks // 2
    with torch.no_grad():
        _, before = reference.run(cut(inputs, 0, begin))
        *_, after = module(*(inputs[p.id][:, :begin] for p in module.graph.tick.inputs))
    rest = cut(inputs, begin, ticks)
    here = errors(of_module(module, rest, after)[0], of_reference(reference, rest, before)[0])
    return Compared(program, found | {f"{n}, from tick {begin}": e for n, e in here.items()}, (inputs,))


def _pieces(module: CompiledModule, inputs: Inputs, cuts: Iterable[int]) -> Seen:
    """What a run shows that goes on from state to state."""
    parts: list[Seen] = []
    after, ticks = None, next(iter(inputs.values())).shape[1]
    for begin, end in pairwise([0, *cuts, ticks]):
        seen, after = of_module(module, cut(inputs, begin, end), after)
        parts.append(seen)
    last = parts[-1]
    return last | {n: torch.cat([p[n] for p in parts], 1) for n in last if not n.startswith("weights")}


# With gaps: a padded text is the text


def padded(program: Program, masks: Iterable[Tensor], build: Build = compiled) -> Compared:
    """Calls one after the other, each with gaps where its mask [batch, ticks] is False."""
    masks = list(masks)
    whole = torch.cat(masks, dim=1)
    inputs = program.inputs(whole.shape[1], batch=len(whole))
    reference, module = pair(program.graph(), build)
    found: dict[str, float] = {}
    begin, after = 0, None
    before: list[Any] = [None] * len(whole)
    for call, mask in enumerate(masks):
        piece = cut(inputs, begin, begin + mask.shape[1])
        expected, before = _by_rows(reference, piece, mask, before)
        seen, after = of_module(module, piece, after, mask)
        if not all(before):  # a row without a token so far has no weights to show
            seen = {n: x for n, x in seen.items() if not n.startswith("weights")}
        found |= {f"{n}, call {call}": e for n, e in errors(seen, expected).items()}
        begin += mask.shape[1]
    rows = ({n: x[row : row + 1, on] for n, x in inputs.items()} for row, on in enumerate(whole) if on.any())
    return Compared(program, found, tuple(rows))


def _by_rows(reference: Reference, inputs: Inputs, mask: Tensor, states: list[Any]) -> tuple[Seen, list[Any]]:
    """What the reference shows if each row is given its own tokens alone, put back in their places; and each row's
    state, None before its first token."""
    given = opened(inputs, reference.dtype)
    rows: list[Seen] = []
    after: list[Any] = []
    for row, before in enumerate(states):
        own = mask[row].nonzero().flatten()
        if not len(own):
            rows.append({})
            after.append(before)
            continue
        outs, losses, now = reference.all({n: x[row : row + 1, own] for n, x in given.items()}, before)
        seen = shown(outs, losses if reference.graph.loss else None)
        rows.append({n: x.new_zeros(mask.shape[1], *x.shape[2:]).index_copy(0, own, x[0]) for n, x in seen.items()})
        after.append(now)
    like = next(row for row in rows if row)
    seen = {n: torch.stack([row.get(n, torch.zeros_like(x)) for row in rows]) for n, x in like.items()}
    weights: Seen = {}
    if all(after):
        running = [reference.weights(state) for state in after]
        weights = {f"weights {n}": torch.stack([row[n] for row in running]) for n in running[0]}
    return seen | weights | gradients(seen, reference.parameters, given), after


# The library and the examples

SIZES = SMALL | {"vocab": 11, "d": 4, "periods": [2, 4], "chunk": 4, "expand": 2, "window": 3}


def texts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every model and block of the library, the examples and what `nldsl new` writes, with small sizes."""
    templates = Path(nldsl.__file__).parent / "templates"
    for path in [p for folder in (EXAMPLES, library(), templates) for p in sorted(folder.glob("*.nl"))]:
        module, _ = parse(path.read_text(encoding="utf-8"), str(path))
        for definition in module.definitions:
            if definition.kind in ("model", "block"):
                names = {p.name for p in definition.parameters}
                yield f"{path}:{definition.name.id}", {n: v for n, v in SIZES.items() if n in names}


TEXTS = dict(texts())


def checked_text(name: str) -> LevelGraph | None:
    """A program of `TEXTS`; None for a block that learns from the loss of its model, and is compared in one."""
    result = front_end(name, TEXTS[name])
    if {d.code for d in result.findings.errors} == {"NL111"}:
        return None
    assert result.graph is not None and not result.findings.errors, result.findings.errors
    return result.graph


def of_text(graph: LevelGraph, ticks: int, build: Build = compiled) -> dict[str, float]:
    """How far everything is from the reference, on two sequences."""
    reference, module = pair(graph, build)
    generator = torch.Generator().manual_seed(0)
    inputs: Inputs = {}
    for port in graph.tick.inputs:
        shape = (2, ticks, *map(int, port.shape))
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        if shape[2:] == (1,):  # a gate
            drawn = drawn.sigmoid()
        inputs[port.id] = torch.randint(SIZES["vocab"], shape, generator=generator) if port.dtype == "int" else drawn
    return errors(of_module(module, inputs)[0], of_reference(reference, inputs)[0])
