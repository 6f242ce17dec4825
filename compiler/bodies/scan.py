"""Chunks of one body, one after the other, as a single operation of autograd.

As an operation each, autograd would look at every tensor that passes from chunk to chunk, which beside a short chunk
takes long. What chunks keep for the backward pass is let go one by one while that runs. Within a budget of memory only
the state before every stretch of chunks is kept, and the rest is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.bodies.adjoint import Adjoint, laid, no_autocast
from nldsl.compiler.bodies.fixed import Fixed
from nldsl.compiler.recompute import stretch
from torch import Tensor

from nldsl.collecting import uncollected

if TYPE_CHECKING:
    from nldsl.compiler.bodies.calls import Room

Rows = Sequence[Sequence[Tensor]]  # the inputs of every chunk, by their places; state is looked at in the first alone
Kept = tuple[list[Tensor], "Room | None"]  # of a chunk: the inputs that its graph uses, what it kept, and where it did
Slopes = dict[int, Tensor]  # gradients by the places of what they are of


def scanned(fixed: Fixed, adjoint: Adjoint, rows: Rows, budget: int, lasting: bool) -> list[list[Tensor]]:
    """The results of every chunk; what is handed on, of the last one only: before it, there is nothing at its places.
    budget: the bytes that chunks may keep, 0 for any number. lasting: whether what they keep lasts until the backward
    pass, or all is computed again."""
    scan = Scan(fixed, adjoint, rows, budget, lasting)
    found = iter(_Run.apply(scan, *scan.given(rows)))  # type: ignore[no-untyped-call]
    results: list[list[Any]] = [[None] * fixed.count for _ in rows]
    for chunk, o in scan.shown():
        results[chunk][o] = next(found)
    return results


def followed(rows: Rows, handed: Mapping[int, int], call: Callable[[list[Tensor]], list[Tensor]]) -> list[list[Tensor]]:
    """The same, each chunk an operation of its own."""
    found: list[list[Any]] = []
    for row in rows:
        inputs = [*row]
        if found:
            for i, o in handed.items():
                inputs[i] = laid(found[-1][o], row[i].stride(), True)
            for o in handed.values():
                found[-1][o] = None
        found.append([*call(inputs)])
    return found


class Scan:
    """How chunks follow one another. handed: which result an input is at the next chunk; same: the inputs that are the
    same for all chunks; own: those that are each chunk's own; length: of a stretch."""

    def __init__(self, fixed: Fixed, adjoint: Adjoint, rows: Rows, budget: int, lasting: bool) -> None:
        self.fixed, self.adjoint, self.count, self.lasting = fixed, adjoint, len(rows), lasting
        self.handed, first = fixed.following, rows[0]
        self.size = len(first)
        others = [i for i in range(self.size) if i not in self.handed]
        self.own = [i for i in others if any(row[i] is not first[i] for row in rows)]
        self.same = [i for i in others if i not in self.own]
        self.state = list(dict.fromkeys(self.handed.values()))
        self.values = [o for o in range(fixed.count) if o not in self.state]
        self.learnt = self._learnt([x.requires_grad for x in first])
        size = sum(first[i].nbytes for i in self.handed)
        self.length = stretch(self.count, adjoint.bytes + size, size, budget) or self.count
        self.lead = len(self.handed) + len(self.same)
        self.strides = [first[i].stride() for i in self.handed]

    def given(self, rows: Rows) -> list[Tensor]:
        """What autograd sees of the inputs."""
        lead = [rows[0][i] for i in (*self.handed, *self.same)]
        return [*lead, *(row[i] for row in rows for i in self.own)]

    def places(self, chunk: int) -> Iterator[tuple[int, int]]:
        """The inputs of a chunk that no chunk hands on: their places, there and in what autograd sees."""
        yield from zip(self.same, range(len(self.handed), self.lead), strict=True)
        begin = self.lead + chunk * len(self.own)
        yield from zip(self.own, range(begin, begin + len(self.own)), strict=True)

    def shown(self) -> Iterator[tuple[int, int]]:
        """What autograd sees of the results: of which chunk, at which place."""
        for chunk in range(self.count):
            yield from ((chunk, o) for o in self.values)
        yield from ((self.count - 1, o) for o in self.state)

    def inputs(self, given: Sequence[Tensor], chunk: int, state: Sequence[Tensor]) -> list[Tensor]:
        """All inputs of a chunk."""
        found: list[Any] = [None] * self.size
        for i, x in zip(self.handed, state, strict=True):
            found[i] = x
        for i, place in self.places(chunk):
            found[i] = given[place]
        return found

    def handed_on(self, results: Sequence[Tensor]) -> list[Tensor]:
        """The state of the next chunk."""
        return [laid(results[o], s, True) for o, s in zip(self.handed.values(), self.strides, strict=True)]

    def forward(self, given: Sequence[Tensor], chunk: int, state: Sequence[Tensor]) -> tuple[list[Tensor], Kept]:
        """The results of a chunk, and what its backward pass needs: never the very tensors that are results, which
        know through autograd who made them."""
        inputs = self.inputs(given, chunk, state)
        used = [inputs[i] for i in self.fixed.used]
        found, room = self.adjoint.chunk(used)
        count = len(self.adjoint.learnt)
        unique = {id(x) for x in found[:count]}
        kept = [x.detach() if id(x) in unique else x for x in found[count:]]
        return self.fixed.filled(inputs, [found[i] for i in self.adjoint.order]), ([*used, *kept], room)

    def again(self, given: Sequence[Tensor], begin: int, state: Sequence[Tensor]) -> list[Kept]:
        """What the chunks of a stretch keep."""
        trail: list[Kept] = []
        for chunk in range(begin, min(begin + self.length, self.count)):
            results, kept = self.forward(given, chunk, state)
            trail.append(kept)
            state = self.handed_on(results)
        return trail

    def backward(self, kept: Kept, slopes: Slopes) -> Slopes:
        """From the gradients of a chunk's results to those of its inputs."""
        saved, room = kept
        found: Slopes = {}
        tangents: Slopes = {}
        for o, slope in slopes.items():
            if o in self.fixed.passed:
                _add(found, self.fixed.passed[o], slope)
            elif o in self.fixed.left:
                _add(tangents, self.adjoint.order[self.fixed.left[o]], slope)
        given = [tangents.get(i) for i, learnt in enumerate(self.adjoint.learnt) if learnt]
        if any(x is not None for x in given):
            wanted = (i for i, w in zip(self.fixed.used, self.adjoint.wanted, strict=True) if w)
            for i, slope in zip(wanted, self.adjoint.backward(saved, given), strict=True):
                _add(found, i, slope)
        self.adjoint.over(room)
        return found

    def _learnt(self, wanted: list[bool]) -> set[int]:
        """The results with a gradient. wanted: the inputs that have one at the first chunk."""
        while True:
            found = {o for o, place in self.fixed.left.items() if self.adjoint.learnt[self.adjoint.order[place]]}
            found |= {o for o, i in self.fixed.passed.items() if wanted[i]}
            after = [w or self.handed.get(i) in found for i, w in enumerate(wanted)]
            if after == wanted:
                return found
            wanted = after


class _Run(torch.autograd.Function):
    """All chunks, as autograd sees them."""

    @staticmethod
    @uncollected()
    def forward(ctx: Any, scan: Scan, *given: Tensor) -> tuple[Tensor, ...]:
        state: Sequence[Tensor] = given[: len(scan.handed)]
        shown: list[tuple[int, Tensor]] = []
        starts: list[Tensor] = []
        trail: list[Kept] = []
        last = (scan.count - 1) // scan.length * scan.length
        for chunk in range(scan.count):
            if chunk and chunk % scan.length == 0:
                starts += state
            results, kept = scan.forward(given, chunk, state)
            state = scan.handed_on(results)
            shown += [(o, _apart(results[o], state)) for o in scan.values]
            if chunk >= last and scan.lasting:  # the backward pass comes to this stretch first
                trail.append(kept)
            else:
                scan.adjoint.over(kept[1])
        shown += [(o, results[o]) for o in scan.state]
        answers: list[Tensor] = []
        for o, x in shown:
            answers.append(x.clone() if o in scan.fixed.passed else _apart(x, answers[-len(results) :]))
        ctx.scan, ctx.trail = scan, trail
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given, *starts)
        ctx.mark_non_differentiable(*(x for (o, _), x in zip(shown, answers, strict=True) if o not in scan.learnt))
        return tuple(answers)

    @staticmethod
    @uncollected()
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        scan, saved = ctx.scan, ctx.saved_tensors
        count = scan.lead + scan.count * len(scan.own)
        outer: list[Slopes] = [{} for _ in range(scan.count)]
        for (chunk, o), slope in zip(scan.shown(), slopes, strict=True):
            if slope is not None:
                outer[chunk][o] = slope
        with no_autocast(scan.adjoint.device):  # its operators are cast already
            if torch.is_grad_enabled():
                return None, *_once_more(scan, saved[:count], outer)
            trail, ctx.trail = ctx.trail, []
            return None, *_gradients(scan, saved[:count], saved[count:], outer, trail)


def _gradients(
    scan: Scan, given: Sequence[Tensor], starts: Sequence[Tensor], outer: Sequence[Slopes], trail: list[Kept]
) -> list[Tensor | None]:
    """Of what autograd sees of the inputs. outer: the gradients of results, by chunk; trail: what the last stretch kept
    where it has lasted."""
    found: Slopes = {}
    size = len(scan.handed)
    states = [*given[:size], *starts]
    slopes: Slopes = {}  # of what is handed on
    for number in reversed(range(-(-scan.count // scan.length))):
        begin = number * scan.length
        trail = trail or scan.again(given, begin, states[number * size : (number + 1) * size])
        for chunk in reversed(range(begin, begin + len(trail))):
            for o, slope in outer[chunk].items():
                _add(slopes, o, slope)
            inner = scan.backward(trail.pop(), slopes)
            for i, place in scan.places(chunk):
                _add(found, place, inner.get(i))
            slopes = {}
            for place, (i, o) in enumerate(scan.handed.items()):
                _add(slopes, o, inner.get(i))
                if not chunk:
                    _add(found, place, inner.get(i))
    return [found.get(i) for i in range(len(given))]


def _once_more(scan: Scan, given: Sequence[Tensor], outer: Sequence[Slopes]) -> list[Tensor | None]:
    """The gradients through the body itself: they may be differentiated in turn."""
    state = given[: len(scan.handed)]
    answers: list[Tensor] = []
    tangents: list[Tensor] = []
    for chunk, slopes in enumerate(outer):
        inputs = scan.inputs(given, chunk, state)
        results = scan.fixed.filled(inputs, scan.adjoint.body.forward(*(inputs[i] for i in scan.fixed.used)))
        state = scan.handed_on(results)
        learnt = [o for o in slopes if results[o].requires_grad]
        answers += [results[o] for o in learnt]
        tangents += [slopes[o] for o in learnt]
    sources = [x for x in given if x.requires_grad]
    found = iter(torch.autograd.grad(answers, sources, tangents, allow_unused=True, create_graph=True))
    return [next(found) if x.requires_grad else None for x in given]


def _apart(x: Tensor, others: Sequence[Tensor]) -> Tensor:
    """x, as a tensor that is none of the others."""
    return x.clone() if any(x is other for other in others) else x


def _add(slopes: Slopes, place: int, slope: Tensor | None) -> None:
    if slope is not None:
        slopes[place] = slopes[place] + slope if place in slopes else slope
