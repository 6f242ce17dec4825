"""How long a memory keeps what was written: the half-life of a small change to it.

After a warm-up one copy of the program has a memory's weights moved a little, in a random direction, and reads on
beside one that has not. The horizon is the number of tokens after which the distance of the two memories is half of
what it was. This needs nothing of the rules: a decay by a number a has the half-life log 0.5 / log a, erasing and deep
rules have one as well, and what is overwritten or restarted is gone at once. The heads of a memory count together:
some may be made to forget fast (Mamba-2's gates start at many paces) as long as others keep what they read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from nldsl.compiler.doctor.probe import Inputs, Weights, weights_of
from nldsl.compiler.doctor.sizes import norm
from nldsl.compiler.state import State
from torch import Tensor

from nldsl.graph import Memory

WARM = 256  # tokens before memories are moved, or a quarter of fewer
MOVED = 1e-3  # of a fresh matrix's entries: small, and far above rounding
TOGETHER = 8  # memories moved in one run, each in a row of its own
NOTHING = 1e-9  # of the change: what is left less is gone


class Horizons:
    """The horizons of some memories: those of row 0 are compared with row `first` + i, where memory i is moved.

    found: tokens until half is gone, by memory; None where it is not within the text, or is not a number.
    """

    def __init__(self, memories: Sequence[Memory], first: int, ticks: int, seed: int) -> None:
        self.rows = {memory.id: first + i for i, memory in enumerate(memories)}
        self.warm = warm(ticks)
        self.marks = (self.warm, *(self.warm + n for n in _looks(ticks - self.warm)))
        self.found: dict[str, float | None] = dict.fromkeys(self.rows)
        self.generator = torch.Generator().manual_seed(seed)
        self.at_first: dict[str, Tensor] = {}
        self.last: dict[str, tuple[int, float]] = {}  # the last look: after how many tokens, and how much was left

    def look(self, tokens: int, state: State) -> None:
        """tokens: read so far, one of the marks. At the first one the memories are moved, in the state itself."""
        if tokens == self.warm:
            for name, row in self.rows.items():
                _move(weights_of(state, name), row, self.generator)
                self.at_first[name] = _apart(state, name, row)
                self.last[name] = 0, 1.0
            return
        now = tokens - self.warm
        for name in [n for n in self.last if self.found[n] is None]:
            left = float(_apart(state, name, self.rows[name]) / self.at_first[name])
            if not math.isfinite(left):
                del self.last[name]
                continue
            if left <= 0.5:
                self.found[name] = _half(*self.last[name], now, left)
            self.last[name] = now, left


def warm(ticks: int) -> int:
    return min(WARM, max(1, ticks // 4))


def with_copies(inputs: Inputs, count: int) -> Inputs:
    """The inputs with so many more rows, which are row 0 again."""
    return tuple(torch.cat([x, x[:1].expand(count, *x.shape[1:])]) for x in inputs)


def _looks(ticks: int) -> Iterator[int]:
    """1, 2, 4 and so on, and the last."""
    look = 1
    while look < ticks:
        yield look
        look *= 2
    yield ticks


def _move(weights: Weights, row: int, generator: torch.Generator) -> None:
    for name, w in weights.items():
        width = w.shape[-2] if w.dim() > 4 else 1
        noise = torch.randn(w.shape[1:], generator=generator, dtype=torch.float64).to(w)
        moved = w.detach().clone()
        moved[row] += MOVED * width**-0.5 * noise
        weights[name] = moved


def _apart(state: State, memory: str, row: int) -> Tensor:
    """How far a row's memory is from that of row 0, all heads together, []."""
    weights = weights_of(state, memory)
    apart: Tensor = norm({n: w[row : row + 1].double() - w[:1].double() for n, w in weights.items()}).norm()
    return apart


def _half(before: int, had: float, now: int, left: float) -> float:
    """Where a decay that is even in between passes one half. had: more than that, left: no more."""
    high, low = math.log(had), math.log(max(left, NOTHING))
    return before + (high - math.log(0.5)) / (high - low) * (now - before)
