"""Makes a counterexample small, greedily: fewer sequences and tokens, plainer numbers, as long as it still is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from nldsl.compiler.equivalence.draws import Draw
from torch import Tensor

TRIES = 400  # runs of both programs
DECIMALS = (0, 1, 2, 3)

Differs = Callable[[Draw], bool]
Place = tuple[int, ...]


class _Search:
    """The smallest counterexample so far. Each step keeps what it tries if that is one too."""

    def __init__(self, draw: Draw, differs: Differs) -> None:
        self.best, self.differs, self.tries = draw, differs, TRIES

    def keeps(self, tried: Draw) -> bool:
        if self.tries <= 0:
            return False
        self.tries -= 1
        if kept := self.differs(tried):
            self.best = tried
        return kept


def smaller(draw: Draw, differs: Differs) -> Draw:
    """A draw of one sequence on which `differs` still holds, as it does on `draw`. Comes to the same end every time."""
    search = _Search(draw, differs)
    any(search.keeps(_part(draw, row, None)) for row in range(len(draw.inputs[0])))
    any(search.keeps(_part(search.best, None, range(end))) for end in range(1, search.best.ticks))
    _drop_ticks(search)
    for plain in (_rounded_inputs, _rounded_parameters):
        any(search.keeps(plain(search.best, decimals)) for decimals in DECIMALS)
    _plainer(search, _whole_ticks)
    _drop_ticks(search)
    _plainer(search, _entries)
    _drop_ticks(search)
    return search.best


def _part(draw: Draw, row: int | None, ticks: range | list[int] | None) -> Draw:
    rows = slice(None) if row is None else slice(row, row + 1)
    chosen = slice(None) if ticks is None else torch.tensor(list(ticks))
    return replace(draw, inputs=tuple(x[rows][:, chosen] for x in draw.inputs))


def _drop_ticks(search: _Search) -> None:
    for tick in reversed(range(search.best.ticks)):
        if search.best.ticks > 1:
            search.keeps(_part(search.best, None, [t for t in range(search.best.ticks) if t != tick]))


def _rounded_inputs(draw: Draw, decimals: int) -> Draw:
    return replace(draw, inputs=tuple(_rounded(x, decimals) for x in draw.inputs))


def _rounded_parameters(draw: Draw, decimals: int) -> Draw:
    return replace(draw, parameters={name: _rounded(x, decimals) for name, x in draw.parameters.items()})


def _rounded(x: Tensor, decimals: int) -> Tensor:
    return x.round(decimals=decimals) + 0.0 if x.is_floating_point() else x  # + 0: no -0


# One place after the other


def _plainer(search: _Search, places: Callable[[Tensor], list[Place]]) -> None:
    """Puts 0 where that is enough, or else, in a single number, 1; from the last place, so that the first stay."""
    for port in range(len(search.best.inputs)):
        for place in reversed(places(search.best.inputs[port])):
            if not bool(search.best.inputs[port][place].any()):
                continue
            values = (0, 1) if places is _entries else (0,)
            any(search.keeps(_with(search.best, port, place, value)) for value in values)


def _whole_ticks(x: Tensor) -> list[Place]:
    return [(0, tick) for tick in range(x.shape[1])]


def _entries(x: Tensor) -> list[Place]:
    return list(itertools.product(*map(range, x.shape)))


def _with(draw: Draw, port: int, place: Place, value: int) -> Draw:
    x = draw.inputs[port].clone()
    x[place] = value
    return replace(draw, inputs=(*draw.inputs[:port], x, *draw.inputs[port + 1 :]))
