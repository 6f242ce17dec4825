"""Graphs of aten operators handed straight to inductor.

A body's shapes never change, so nothing of what dynamo guards has to be asked at every chunk; and what dynamo would
trace is traced already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        if self._run is None:
            import torch._inductor as inductor

            with torch.autocast(inputs[0].device.type, enabled=False):  # its operators are cast already
                self._run = inductor.standalone_compile(
                    self.graph,
                    [*inputs],
                    dynamic_shapes="from_example_inputs",
                    options={"config_patches": {**self.options}},
                )
        return self._run(*inputs)
