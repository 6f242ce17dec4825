"""Elementwise operators on tensors without numbers, as a trial runs them.

Torch's own shape functions for these are Python: the first of them that runs imports torch's compiler, which takes
longer than everything else from the text to the module, and each takes longer than a small tensor's arithmetic. Here
the shape is broadcast and the type is that of the operator on single numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")


class Outlines(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Under it operators on the meta device give what they would give without it, strides aside."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper that this spares imports the compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.arange.default and kwargs.get("device") == META:
            return torch.empty(args[0], dtype=kwargs.get("dtype") or torch.int64, device=META)
        if torch.Tag.pointwise in func.tags and not func._schema.is_mutable:
            tensors = [x for x in args if isinstance(x, Tensor)]
            if any(x.device == META for x in tensors):
                return _elementwise(func, tensors, args, kwargs)
        return func(*args, **kwargs)


def _elementwise(func: Any, tensors: list[Tensor], args: Any, kwargs: Mapping[str, Any]) -> Tensor:
    shape = torch.broadcast_tensors(*tensors)[0].shape  # type: ignore[no-untyped-call]
    ones = [torch.ones((1,) * x.dim(), dtype=x.dtype) if isinstance(x, Tensor) else x for x in args]
    return torch.empty(shape, dtype=func(*ones, **kwargs).dtype, device=META)
