"""Functions of tensors as graphs of aten operators, tidied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nldsl.compiler.bodies.folding import folded
from nldsl.compiler.bodies.nodes import unreal
from nldsl.compiler.bodies.tidy import tidied, writes
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import _disable_current_modes


def traced(function: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """What a function does with tensors like these."""
    graph = recorded(function, [x.detach() for x in inputs])
    with _disable_current_modes():  # nothing of this is run
        tidied(graph.graph)
        if not writes(graph.graph):
            folded(graph.graph)
            tidied(graph.graph)
        unreal(graph.graph)
    graph.recompile()
    return graph


def recorded(function: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """A function's operators, as they are. One mode is at hand to say what they give: torch would make one for each of
    them, which takes as long as all else."""
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function)(*inputs)
