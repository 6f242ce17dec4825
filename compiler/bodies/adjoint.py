"""A body's backward pass as a graph of its own: what autograd would do at every chunk, worked out once.

The body and its gradient are traced together and cut in two: what the results need, and what their gradients need of
that. Both are rewritten (`rewrites.py`), and autograd sees one operation per chunk. Graphs are called by their
`forward`: what hooks into all modules, as torch's counter of FLOPs does, is about those of users.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.bodies.inplace import inplace
from nldsl.compiler.bodies.nodes import ancestors, is_view, part, results_of, unreal, value
from nldsl.compiler.bodies.rewrites import rewritten
from nldsl.compiler.bodies.silent import silent, without
from nldsl.compiler.bodies.sparing import sparing
from nldsl.compiler.bodies.standalone import Standalone
from nldsl.compiler.bodies.tidy import attached, slopes, tidied, writes
from nldsl.compiler.bodies.tracing import recorded
from nldsl.compiler.bodies.views import sunk
from torch import Tensor, fx

if TYPE_CHECKING:
    from nldsl.compiler.bodies.calls import Calls, Room

Compiler = Callable[[Callable[..., Any], bool | None], Callable[..., Any]]
Wanted = tuple[bool, ...]  # the inputs that are differentiated


class Adjoint:
    """A body whose inputs are differentiated where `wanted` says so. Called with the same inputs, it gives the same
    results; a gradient of its gradient goes through the body itself."""

    def __init__(
        self,
        body: fx.GraphModule,
        inputs: Sequence[Tensor],
        wanted: Wanted,
        handed: Mapping[int, int],
        compiler: Compiler | None = None,
    ) -> None:
        self.body, self.wanted, self.compiler, self.device = body, wanted, compiler, inputs[0].device.type
        with torch.enable_grad():
            results = body.forward(*leaves(inputs, wanted))
        places: dict[int, int] = {}  # of results that are the same tensor
        self.order = [places.setdefault(id(x), len(places)) for x in results]
        unique = self._unique(results)
        self.learnt = [x.requires_grad for x in unique]
        tangents = [torch.zeros_like(x.detach()) for x in unique if x.requires_grad]
        self.tangents = [x.to("meta") for x in tangents]
        joint = recorded(lambda *x: self._joint(x[: len(wanted)], x[len(wanted) :]), [*inputs, *tangents])
        attached(joint.graph)
        tidied(joint.graph)
        slopes(joint.graph)
        if not writes(joint.graph):
            unreal(joint.graph)
            sunk(joint.graph)  # what is kept then lies as it is needed
        forward, self._whole = self._cut(joint)
        self.bytes = sum(value(n).nbytes for n in results_of(forward)[len(self.learnt) :])  # that a chunk keeps
        forward.meta["kept"] = len(self.learnt)  # from which result on
        self.forward = finished(forward, compiler, self.device)
        found = iter(results_of(self._whole))
        heard = {i for i, w in enumerate(wanted) if w and next(found) is not None}
        learnt = [i for i, learnt in enumerate(self.learnt) if learnt]
        self.silent = {learnt.index(i) for i in silent(handed, self.order, heard) if self.learnt[i]}
        self._ways: dict[bool, Callable[..., Any]] = {}

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        results = _Run.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return [results[i] for i in self.order]

    def results(self, *inputs: Tensor) -> list[Tensor]:
        """The same without gradients."""
        found = self.forward(*inputs)
        return [found[i] for i in self.order]

    def chunk(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Room | None]:
        """The results and what is kept, and the room which that lies in, if any: `over` makes it another chunk's."""
        calls = _calls(self.forward)
        room = calls.room() if calls else None
        found: Any = calls(*inputs, room=room) if calls else self.forward(*inputs)
        return found, room

    def over(self, room: Room | None) -> None:
        """Nothing needs any more what is kept in a room."""
        calls = _calls(self.forward)
        if calls and room and all(_calls(way) for way in self._ways.values()):  # no gradient is what was kept
            calls.spared.append(room)

    def backward(self, saved: Sequence[Tensor], given: Sequence[Tensor | None]) -> Any:
        """The gradients of the inputs. saved: the inputs, and what the forward pass kept; given: those of the results
        that are differentiated."""
        lean = all(given[i] is None for i in self.silent)
        heard = (i for i in range(len(given)) if not lean or i not in self.silent)
        return self.way(lean)(*saved, *(self.tangent(i, given[i], saved) for i in heard))

    def way(self, lean: bool) -> Callable[..., Any]:
        """How gradients are found. lean: without those of silent results."""
        if lean not in self._ways:
            tangents = self._whole.graph.find_nodes(op="placeholder")[-len(self.tangents) :]
            left = without(self._whole, [tangents[i] for i in self.silent if lean])
            self._ways[lean] = finished(left, self.compiler, self.device)
        return self._ways[lean]

    def tangent(self, place: int, given: Tensor | None, saved: Sequence[Tensor]) -> Tensor:
        """A gradient of a result as the backward pass wants it."""
        like = self.tangents[place]
        return torch.zeros_like(like, device=saved[0].device) if given is None else laid(given, like.stride())

    def gradients(self, results: Any, inputs: Any, tangents: Any, again: bool) -> list[Tensor | None]:
        """Of the wanted inputs, None where there is none. again: they may be differentiated in turn."""
        learnt = [x for x, learnt in zip(results, self.learnt, strict=True) if learnt]
        sources = [x for x, wanted in zip(inputs, self.wanted, strict=True) if wanted]
        return list(torch.autograd.grad(learnt, sources, tangents, allow_unused=True, create_graph=again))

    def once_more(self, inputs: Sequence[Tensor], given: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients through the body itself."""
        tangents = [self.tangent(i, x, inputs) for i, x in enumerate(given)]
        return self.gradients(self._unique(self.body.forward(*inputs)), inputs, tangents, True)

    def _unique(self, results: Sequence[Tensor]) -> list[Tensor]:
        return [results[self.order.index(i)] for i in range(max(self.order) + 1)]

    def _joint(self, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Any]:
        """The results, then the gradients."""
        sources = leaves(inputs, self.wanted)
        with torch.enable_grad():
            results = self._unique(self.body.forward(*sources))
        with no_autocast(self.device):  # as autograd does at run time
            return [*results, *self.gradients(results, sources, tangents, False)]

    def _cut(self, joint: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule]:
        """inputs -> results, kept; and inputs, kept, tangents -> gradients."""
        given = list(joint.graph.find_nodes(op="placeholder"))
        inputs, tangents = given[: len(self.wanted)], given[len(self.wanted) :]
        answers = results_of(joint)
        results, gradients = answers[: len(self.learnt)], answers[len(self.learnt) :]
        early = ancestors(results, ())
        early |= {n for n in joint.graph.nodes if n.target is operator.getitem and n.args[0] in early}
        needed = ancestors([g for g in gradients if g is not None], early, through=is_view)  # views are made again
        made = [n for n in joint.graph.nodes if n.op == "call_function" and n in early and not is_view(n)]
        kept = sparing([n for n in made if any(u in needed for u in n.users) or n in gradients], inputs)
        return part(joint, inputs, [*results, *kept]), part(joint, [*inputs, *kept, *tangents], gradients)


def finished(graph: fx.GraphModule, compiler: Compiler | None, device: str) -> Callable[..., Any]:
    """What is called in place of a graph, on a device."""
    pure = not writes(graph.graph)
    if pure:
        rewritten(graph)
    if compiler is not None:
        return compiler(graph, False)
    return (inplace(graph, device) if pure else graph).forward


def _calls(run: Callable[..., Any]) -> Calls | None:
    return run.calls if isinstance(run, Standalone) else None


def no_autocast(device: str) -> AbstractContextManager[Any]:
    on = device != "meta" and torch.is_autocast_enabled(device)  # of meta it knows nothing
    return torch.autocast(device, enabled=False) if on else nullcontext()


def leaves(inputs: Sequence[Tensor], wanted: Wanted) -> list[Tensor]:
    return [x.detach().requires_grad_() if w else x.detach() for x, w in zip(inputs, wanted, strict=True)]


class _Run(torch.autograd.Function):
    """One chunk, as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, adjoint: Adjoint, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = adjoint.forward(*inputs)
        count = len(adjoint.learnt)
        results = apart(found[:count])
        ctx.adjoint, ctx.inputs = adjoint, len(inputs)
        ctx.set_materialize_grads(False)  # a body has results that no gradient comes to
        ctx.save_for_backward(*inputs, *found[count:])
        ctx.mark_non_differentiable(*(x for x, learnt in zip(results, adjoint.learnt, strict=True) if not learnt))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        adjoint, saved = ctx.adjoint, ctx.saved_tensors
        tangents = [x for x, learnt in zip(given, adjoint.learnt, strict=True) if learnt]
        with no_autocast(adjoint.device):  # its operators are cast already
            if torch.is_grad_enabled():
                found = adjoint.once_more(saved[: ctx.inputs], tangents)
            else:
                found = adjoint.backward(saved, tangents)
        gradients = iter(found)
        return None, *(next(gradients) if wanted else None for wanted in adjoint.wanted)


def apart(results: Sequence[Tensor]) -> list[Tensor]:
    """Results of which none is the same tensor as another. One that a gradient stops at may be computed as one that it
    goes through, and autograd notes with a tensor which of them it is."""
    found: dict[int, Tensor] = {}
    return [found.setdefault(id(x), x) if id(x) not in found else x.detach() for x in results]


def laid(x: Tensor, stride: tuple[int, ...], exactly: bool = False) -> Tensor:
    """x with its numbers laid out like that: a graph may have been made for no other layout. exactly: axes with one
    entry too, where it makes no difference to a number."""
    if x.stride() == stride:
        return x
    if all(a == b or n == 1 for a, b, n in zip(x.stride(), stride, x.shape, strict=True)):
        return x.as_strided(x.shape, stride) if exactly else x
    shape = x.shape
    for axis, step in enumerate(stride):
        if step == 0:
            x = x.narrow(axis, 0, 1)
    return torch.empty_strided(x.shape, stride, dtype=x.dtype, device=x.device).copy_(x).expand(shape)
