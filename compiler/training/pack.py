"""Nested Python data with tensors in it <-> plain JSON data beside a flat dictionary of tensors.

Nothing is ever unpickled: what is read is numbers, text and tensors.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]


def pack(value: Any, path: str, tensors: Tensors) -> Any:
    """`value` as JSON data; its tensors go into `tensors` by their path, on the CPU, each with memory of its own."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            while path in tensors:
                path += "_"
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {"tensor": path}
        case Fraction():
            return {"fraction": str(value)}
        case dict():
            return {"dict": [[pack(k, path, tensors), pack(v, f"{path}.{k}", tensors)] for k, v in value.items()]}
        case list():
            return [pack(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
        case tuple() if type(value) is tuple:
            return {"tuple": [pack(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]}
    raise TypeError(f"`{path}` is a {type(value).__name__}, which a checkpoint can't hold")


def unpack(packed: Any, tensors: Tensors) -> Any:
    """What `pack` was given. Raises KeyError, TypeError or ValueError if it never was."""
    if isinstance(packed, list):
        return [unpack(v, tensors) for v in packed]
    if not isinstance(packed, dict):
        return packed
    [(kind, content)] = packed.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "fraction":
            return Fraction(content)
        case "dict":
            return {_key(unpack(k, tensors)): unpack(v, tensors) for k, v in content}
        case "tuple":
            return tuple(unpack(v, tensors) for v in content)
    raise ValueError(kind)


def _key(key: Any) -> Any:
    hash(key)
    return key
