"""What bodies are handed to that are to be machine code: `torch.compile`, or inductor alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from nldsl.compiler.bodies.adjoint import Compiler
from nldsl.compiler.bodies.standalone import Standalone
from torch import fx


def compiler_of(options: Mapping[str, Any]) -> Compiler:
    """options: those of `torch.compile`."""

    def compiled(body: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
        own = options.get("options", {})
        if "backend" not in options:
            from nldsl.compiler.bodies.kernels import Kernels

            own = {"post_grad_custom_post_pass": Kernels(), **own}
        if isinstance(body, fx.GraphModule) and options.keys() <= {"options"}:
            return Standalone(body, {"size_asserts": False, **own})  # its shapes never change
        more = {} if "mode" in options else {"options": {**own, "guard_filter_fn": of_inputs}}
        return torch.compile(body, fullgraph=True, dynamic=dynamic, **{**options, **more})

    return compiled


def of_inputs(guards: Sequence[Any]) -> list[bool]:
    """Which guards a body needs: what it is given, and torch's own state. The records it is made from never change, and
    to look at all of them would take as long as a short step. (With a `mode`, torch takes no options.)"""
    return [not guard.name or guard.name.startswith("given[") for guard in guards]
