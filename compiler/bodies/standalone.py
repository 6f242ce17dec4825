"""Graphs of aten operators handed straight to inductor.

A body's shapes never change, so nothing of what dynamo guards has to be asked at every chunk; and what dynamo would
trace is traced already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from nldsl.compiler.bodies.calls import Calls


class Standalone:
    """A graph, compiled when it is first called, for tensors like those. options: inductor's."""

    def __init__(self, graph: fx.GraphModule, options: Mapping[str, Any]) -> None:
        self.graph, self.options = graph, options
        for node in graph.graph.nodes:
            node.meta.pop("val", None)  # on no device, and inductor would take it at its word
        self.calls: Calls | None = None  # of nothing but kernels, with results of their own
        self._run: Callable[..., Any] | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        return self._first(inputs) if self._run is None else self._run(*inputs)

    def _first(self, inputs: Sequence[Tensor]) -> Any:
        import torch._inductor as inductor
        from nldsl.compiler.bodies import calls, native

        with torch.autocast(inputs[0].device.type, enabled=False):  # its operators are cast already
            run = inductor.standalone_compile(
                self.graph,
                [*inputs],
                dynamic_shapes="from_example_inputs",
                options={"config_patches": {**self.options}},
            )
        with calls.watched() as seen:
            results = run(*inputs)
        together = self.graph.meta.get("kept")
        self.calls = calls.worked_out(seen, inputs, results, together) if native.AT_HAND else None
        self._run = self.calls or run
        return results
