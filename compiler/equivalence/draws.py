"""Random inputs and parameters for two programs: chosen to bring differences out and to keep states finite."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import torch
from nldsl.compiler.equivalence.pairing import axes, shape_of
from torch import Generator, Tensor

from nldsl.graph import LevelGraph
from nldsl.parameters import Parameter, learned_parameters
from nldsl.vocabulary import vocabularies

WORDS = 8  # tokens, where a program does not say how many it knows
FEW = 4  # tokens of a text that repeats itself
SPREAD = 0.3  # of parameters, about the constant they start at


@dataclass(frozen=True)
class Draw:
    """inputs: by place, [batch, ticks, (heads,) *shape]. parameters: by the first program's names."""

    inputs: tuple[Tensor, ...]
    parameters: dict[str, Tensor]

    @property
    def ticks(self) -> int:
        return self.inputs[0].shape[1]


def drawn(first: LevelGraph, second: LevelGraph, number: int, count: int, longest: int, seed: int) -> Draw:
    """Draw `number` of `count`. Lengths grow from 1 to `longest` by a constant factor, so that what shows early is
    found on a short text; batches are of 1 to 3 sequences."""
    generator = Generator().manual_seed(zlib.crc32(f"{seed} {number}".encode()))
    ticks = round(longest ** (number / (count - 1))) if count > 1 else longest
    shape = (1 + number % 3, ticks)
    size = 0.3 * 5 ** _uniform(generator)
    sizes = vocabularies(first), vocabularies(second)
    streams = []
    for a, b in zip(first.tick.inputs, second.tick.inputs, strict=True):
        if a.dtype == "int":
            known = min(sizes[0].get(a.id, WORDS), sizes[1].get(b.id, WORDS))
            streams.append(_tokens((*shape, *axes(a)), known, generator))
        else:
            streams.append(_numbers((*shape, *axes(a)), size, generator))
    return Draw(tuple(streams), {n: _start(p, generator) for n, p in learned_parameters(first).items()})


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))


def _tokens(shape: tuple[int, ...], known: int, generator: Generator) -> Tensor:
    """All that are known, or a few of them again and again."""
    several = known if _uniform(generator) < 0.5 else min(FEW, known)
    first = torch.randint(known, (), generator=generator)
    return (torch.randint(several, shape, generator=generator) + first) % known


def _numbers(shape: tuple[int, ...], size: float, generator: Generator) -> Tensor:
    """Vectors of about the length `size`. Every fourth comes again from an earlier tick, and another fourth nearly: a
    memory's rules differ in what they do to a key that it knows."""
    width = shape[-1] if len(shape) > 2 else 1
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * (size / math.sqrt(width))
    for row in x:
        for t in range(1, len(row)):
            kind, earlier = _uniform(generator), int(t * _uniform(generator))
            if kind < 0.5:
                share = 1.0 if kind < 0.25 else 0.9
                row[t] = share * row[earlier] + (1 - share**2) ** 0.5 * row[t]
    return x


def _start(parameter: Parameter, generator: Generator) -> Tensor:
    """As it starts by its text, but never as a constant: a matrix of zeros hides what stands behind it."""
    shape = shape_of(parameter)
    kind, *numbers = parameter.leaf.init
    values = [float(n) for n in numbers]
    least = SPREAD * (1 / math.sqrt(parameter.leaf.shape[0]) if len(parameter.leaf.shape) > 1 else 1)
    if kind == "uniform" and values[0] < values[1]:
        low, high = values
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    middle, spread = (0.0, max(values[0], least)) if kind == "normal" else (values[0], least)
    return middle + spread * torch.randn(shape, generator=generator, dtype=torch.float64)
