"""Graphs of aten operators handed straight to inductor.

A body's shapes never change, so nothing of what dynamo guards has to be asked at every chunk; and what dynamo would
trace is traced already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx


class Standalone:
    """A graph, compiled when it is first called, for tensors like those. options: inductor's."""

    def __init__(self, graph: fx.GraphModule, options: Mapping[str, Any]) -> None:
        self.graph, self.options = graph, options
        for node in graph.graph.nodes:
            node.meta.pop("val", None)  # on no device, and inductor would take it at its word
        self._run: Callable[..., Any] | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        return self._first(inputs) if self._run is None else self._run(*inputs)

    def _first(self, inputs: Sequence[Tensor]) -> Any:
        import torch._inductor as inductor
        from nldsl.compiler.bodies import native, replay

        with torch.autocast(inputs[0].device.type, enabled=False):  # its operators are cast already
            run = inductor.standalone_compile(
                self.graph,
                [*inputs],
                dynamic_shapes="from_example_inputs",
                options={"config_patches": {**self.options}},
            )
        with replay.watched() as seen:
            results = run(*inputs)
        self._run = (replay.replayed(seen, inputs, results) if native.AT_HAND else None) or run
        return results
