"""Whether two programs are the same function: the same random numbers run through both, in float64.

Agreement is evidence and no proof. It is asked for at every output, at every loss where both have one, and at the
gradients of a random sum of them by each tied parameter and each real input. What learns on a step clock matters to
training alone and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from nldsl.compiler.equivalence.counterexample import smaller
from nldsl.compiler.equivalence.draws import Draw, drawn
from nldsl.compiler.equivalence.pairing import tied
from nldsl.compiler.module import CompiledModule
from torch import Tensor

from nldsl.graph import LevelGraph

TOLERANCE = 1e-9
HUGE = 1e30  # beyond it a run is about to overflow: what it shows is treated as if it had

Seen = dict[str, Tensor]  # "output", or "output 1" and so on, "losses", "gradient by W.w": by the first program's names


@dataclass(frozen=True)
class Difference:
    """Where two programs part. what: an output, the losses or a gradient. tick: the first at which they part there,
    None for the gradient by a parameter. first, second: both values, of that tick where there is one."""

    what: str
    tick: int | None
    first: Tensor
    second: Tensor

    @property
    def apart(self) -> float:
        return float((self.first - self.second).abs().max())


@dataclass(frozen=True)
class Counterexample:
    """One sequence on which two programs part, made from draw `number` (from 0). inputs: their names."""

    draw: Draw
    number: int
    inputs: tuple[str, ...]
    difference: Difference


@dataclass(frozen=True)
class Verdict:
    """compared, skipped: numbers of draws; one is skipped where both programs left the finite numbers. shortest,
    longest: tokens of those compared. apart: the largest relative difference. kinds: what was compared. pairs: the
    second program's name of each parameter of the first."""

    compared: int
    skipped: int
    shortest: int
    longest: int
    apart: float
    kinds: tuple[str, ...]
    pairs: Mapping[str, str]
    counterexample: Counterexample | None = None

    @property
    def equal(self) -> bool:
        return self.compared > 0 and self.counterexample is None


def compare(
    first: LevelGraph,
    second: LevelGraph,
    *,
    pairs: Mapping[str, str] | None = None,
    count: int = 20,
    length: int = 40,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Verdict:
    """Run `count` draws of up to `length` tokens through both, until one shows a difference, which is then made small.

    tolerance: of a difference, relative to numbers beyond one (`gap`). The same seed gives the same verdict. Raises
    UnlikeError if the programs can't be compared (`pairing.tied`).
    """
    both = Both(first, second, tied(first, second, pairs), seed)
    lengths: list[int] = []
    skipped, apart, kinds = 0, 0.0, dict[str, None]()
    example = None
    for number in range(count):
        draw = drawn(first, second, number, count, length, seed)
        gaps, finite = both.gaps(draw)
        largest = max(gaps.values(), default=0.0)
        if not finite and largest <= tolerance:
            skipped += 1
            continue
        lengths.append(draw.ticks)
        apart = max(apart, largest)
        kinds |= dict.fromkeys(what.split()[0] for what in gaps)
        if largest > tolerance:
            small = _smallest(both, draw, gaps, tolerance)
            names = tuple(p.id for p in first.tick.inputs)
            example = Counterexample(small, number, names, both.parting(small, tolerance))
            break
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    return Verdict(len(lengths), skipped, shortest, longest, apart, tuple(kinds), both.pairs, example)


def _smallest(both: Both, draw: Draw, gaps: Mapping[str, float], tolerance: float) -> Draw:
    """As little of a draw as still shows a difference: in the outputs or losses if there is one, for a gradient says
    less to a reader."""
    plain = max((gap for what, gap in gaps.items() if not _is_gradient(what)), default=0.0)
    gradients = plain <= tolerance
    found = max(gaps.values()) if gradients else plain
    least = max(tolerance, min(found, 1.0) / 1000)  # what is far below that may be another thing, such as rounding

    def differs(tried: Draw) -> bool:
        return max(both.gaps(tried, gradients)[0].values(), default=0.0) > least

    return smaller(draw, differs)


class Both:
    """Two programs whose parameters are tied. pairs: the second's name of each parameter of the first."""

    def __init__(self, first: LevelGraph, second: LevelGraph, pairs: Mapping[str, str], seed: int) -> None:
        self.pairs = pairs
        self.first = CompiledModule(first, dtype=torch.float64, seed=seed)
        self.second = CompiledModule(second, dtype=torch.float64, seed=seed)
        self.with_losses = bool(first.loss and second.loss)

    def seen(self, draw: Draw, gradients: bool = True) -> tuple[Seen, Seen]:
        """What each shows of a draw."""
        same = {name: name for name in self.pairs}
        return self._run(self.first, same, draw, gradients), self._run(self.second, self.pairs, draw, gradients)

    def gaps(self, draw: Draw, gradients: bool = True) -> tuple[dict[str, float], bool]:
        """How far apart they are, as far as both are finite, and whether they are to the end."""
        a, b = self.seen(draw, gradients)
        found: dict[str, float] = {}
        finite = True
        for what in a:
            if _is_gradient(what) and not finite:
                break  # of a sum that is no number
            entries, fine = gap(a[what], b[what], timed=not _is_gradient(what))
            found[what] = float(entries.max()) if entries.numel() else 0.0
            finite = finite and fine
        return found, finite

    def parting(self, draw: Draw, tolerance: float) -> Difference:
        """Where they part on one sequence, on which they do: at the first tick, in outputs and losses if in these."""
        a, b = self.seen(draw)
        inputs = [f"gradient by {p.id}" for p in self.first.graph.tick.inputs]
        found: list[tuple[bool, int, Difference]] = []
        for what in a:
            entries, _ = gap(a[what], b[what], timed=not _is_gradient(what))
            if not bool((entries > tolerance).any()):
                continue
            tick = None
            x, y = a[what], b[what]
            if what in inputs or not _is_gradient(what):
                tick = int((entries[0].reshape(draw.ticks, -1) > tolerance).any(1).nonzero()[0])
                x, y = x[0, tick], y[0, tick]
            found.append((_is_gradient(what), tick or 0, Difference(what, tick, x, y)))
        return min(found, key=lambda one: one[:2])[2]

    def _run(self, module: CompiledModule, names: Mapping[str, str], draw: Draw, gradients: bool) -> Seen:
        own = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in draw.parameters.items():
                own[names[name]].copy_(value)
        given = [x.clone().requires_grad_(x.is_floating_point()) for x in draw.inputs]
        with torch.set_grad_enabled(gradients):
            *outs, _ = module(*given)
            seen = {f"output {i}" if len(outs) > 1 else "output": x.double() for i, x in enumerate(outs, 1)}
            if self.with_losses:
                losses, known, _ = module.losses(*given)
                seen["losses"] = losses.where(known, torch.zeros_like(losses))
        if gradients:
            wanted = {p.id: x for p, x in zip(self.first.graph.tick.inputs, given, strict=True) if x.requires_grad}
            seen |= _gradients(seen, wanted | {name: own[names[name]] for name in names})
        return {what: x.detach() for what, x in seen.items()}


def _gradients(seen: Seen, wanted: Mapping[str, Tensor]) -> Seen:
    """Of a random sum of all that is seen."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for x in seen.values():
        total = total + (x * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
    found: Iterable[Tensor | None] = [None] * len(wanted)
    if wanted and total.requires_grad:
        found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    pairs = zip(wanted.items(), found, strict=True)
    return {f"gradient by {name}": torch.zeros_like(x) if g is None else g for (name, x), g in pairs}


def _is_gradient(what: str) -> bool:
    return what.startswith("gradient")


def gap(a: Tensor, b: Tensor, timed: bool) -> tuple[Tensor, bool]:
    """(difference, fine): entry by entry, relative to numbers beyond one; infinite where only one of them is finite.
    Where neither is, nothing can be said: the difference is 0 and `fine` False.

    timed: a and b are [batch, ticks, …], and what a sequence shows later changes nothing at a tick. (What it showed
    earlier does: the rounding errors of large numbers stay in its memories.)
    """
    lost_a, lost_b = (~x.isfinite() | (x.abs() > HUGE) for x in (a, b))
    nothing = _so_far((lost_a & lost_b).double(), timed) > 0
    size = torch.maximum(a.abs(), b.abs()).masked_fill(lost_a | lost_b, 0)
    apart = (a - b).abs() / _so_far(size, timed).clamp(min=1)
    apart = apart.masked_fill(~(a.isfinite() & b.isfinite()), torch.inf).masked_fill(nothing, 0)
    return apart, not bool(nothing.any())


def _so_far(x: Tensor, timed: bool) -> Tensor:
    """The largest entry of a sequence up to each tick, or of all, in the shape of x."""
    if not timed or not x.numel():
        return x.amax().expand_as(x) if x.numel() else x
    most = x.flatten(2).amax(2).cummax(1).values if x.dim() > 2 else x.cummax(1).values
    return most.reshape(*most.shape, *[1] * (x.dim() - 2)).expand_as(x)
