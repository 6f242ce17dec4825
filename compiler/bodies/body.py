"""A traced body as it is called: plainly, by its adjoint where a gradient will be asked for, or chunk after chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from nldsl.compiler.bodies.adjoint import Adjoint, Compiler, Wanted, finished, leaves
from nldsl.compiler.bodies.fixed import Fixed
from nldsl.compiler.bodies.joining import joined
from nldsl.compiler.bodies.nodes import part, results_of
from nldsl.compiler.bodies.scan import Rows, followed, scanned
from nldsl.compiler.bodies.stacking import stacked
from nldsl.compiler.transforms import transformed
from torch import Tensor, fx
from torch.utils._python_dispatch import _disable_current_modes


class Body:
    """A traced body as it is called: by its adjoint where a gradient will be asked for. handed: which result an input
    is at the next chunk, by their places. compiler: what graphs are handed to (with whether their shapes may change),
    None to run them as they are. stacks: the device on which states of equal shape lie stacked, None for nowhere."""

    def __init__(
        self, graph: fx.GraphModule, handed: Mapping[int, int], compiler: Compiler | None, stacks: str | None = None
    ) -> None:
        with _disable_current_modes():  # nothing of this is run
            self.stacked = stacked(graph, handed, stacks) if stacks else None
            if self.stacked is None:
                joined(graph.graph)
                graph.recompile()
            else:
                graph, handed = self.stacked.graph, self.stacked.handed
        self.fixed, self.compiler = Fixed(graph, handed), compiler
        self.graph, self.handed = self.fixed.graph, self.fixed.handed
        self.adjoints: list[Adjoint] = []
        self.refused: set[Wanted] = set()
        self._plain: Callable[..., Any] | None = None

    @property
    def numbers(self) -> set[int]:
        """The results that are one number everywhere and handed on as they are."""
        places = self.fixed.before
        return set(places) if self.stacked is None else {o for i in places for o in self.stacked.results[i]}

    def __call__(self, inputs: Sequence[Tensor], stretched: bool) -> list[Tensor]:
        """The body's results. stretched: they will be computed again, and then must be in the same way."""
        if self.stacked is None:
            return self._results(inputs, stretched)
        return self.stacked.unpacked(self._results(self.stacked.packed(inputs), stretched))

    def scan(self, rows: Rows, budget: int) -> list[list[Tensor]]:
        """The results of chunks that follow one another; of what is handed on, the last chunk's. rows: their inputs by
        place, the state in the first alone. budget: the bytes that they may keep for a backward pass, 0 for any number.
        Where tensors that are kept are looked after, as torch's checkpoint does, all are kept as autograd does."""
        if self.stacked is None:
            return self._scan(rows, budget)
        found = self._scan(self.stacked.rows(rows), budget)
        return [self.stacked.unpacked(results) for results in found]

    def _results(self, inputs: Sequence[Tensor], stretched: bool) -> list[Tensor]:
        used = [inputs[i] for i in self.fixed.used]
        wanted = tuple(x.requires_grad for x in used)
        run: Callable[..., Any] = self.graph.forward
        if not transformed():
            differentiated = torch.is_grad_enabled() and any(wanted)
            run = self._adjoint(used, wanted, stretched) if differentiated else self.plain(used[0].device.type)
        return self.fixed.filled(inputs, run(*used))

    def _scan(self, rows: Rows, budget: int) -> list[list[Tensor]]:
        first, looked = rows[0], torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
        used = [first[i] for i in self.fixed.used]
        if torch.is_grad_enabled() and any(x.requires_grad for x in used) and not transformed():
            run = self._adjoint(used, tuple(x.requires_grad for x in used), False)
            if isinstance(run, Adjoint) and (budget or not looked):
                return scanned(self.fixed, run, rows, budget, not looked)
        return followed(rows, self.fixed.following, lambda inputs: self._results(inputs, False))

    def plain(self, device: str) -> Callable[..., Any]:
        """The body without gradients: that of an adjoint, where another would have to be compiled."""
        if self.compiler is not None and self.adjoints:
            return self.adjoints[-1].results
        if self._plain is None:
            given = self.graph.graph.find_nodes(op="placeholder")
            self._plain = finished(part(self.graph, given, results_of(self.graph)), self.compiler, device)
        return self._plain

    def _adjoint(self, inputs: Sequence[Tensor], wanted: Wanted, stretched: bool) -> Callable[..., Any]:
        for adjoint in self.adjoints if wanted not in self.refused else ():
            if all(w <= a for w, a in zip(wanted, adjoint.wanted, strict=True)):
                return adjoint
        if stretched or wanted in self.refused:
            self.refused.add(wanted)
            return self.graph.forward
        self.adjoints.append(Adjoint(self.graph, inputs, self._lasting(inputs, wanted), self.handed, self.compiler))
        return self.adjoints[-1]

    def _lasting(self, inputs: Sequence[Tensor], wanted: Wanted) -> Wanted:
        """wanted, and the state where a chunk leaves one that the next will differentiate: one adjoint for all."""
        while True:
            with torch.enable_grad():
                results = self.graph.forward(*leaves(inputs, wanted))
            more = {i for i, o in self.handed.items() if results[o].requires_grad}
            more |= {i for i, source in self.fixed.follows.items() if wanted[source]}
            after = tuple(w or i in more for i, w in enumerate(wanted))
            if after == wanted:
                return wanted
            wanted = after
