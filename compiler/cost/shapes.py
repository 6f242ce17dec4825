"""What operators give on the meta device, found out once: the second time the same shapes come, their results are
made without asking torch, whose shape functions take longer than the arithmetic of a small tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

META = "meta"
EMPTY = torch.ops.aten.empty_strided.default.redispatch
KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
Layout = tuple[Any, ...]  # size, stride, dtype


@dataclass(slots=True)
class Known:
    """An operator on these shapes. kind: "fresh" (its results are new tensors), "view" (they are its arguments, seen
    another way) or "write" (it changes an argument). results: the layouts of what is fresh. work: what was worked out
    about it, by who asked."""

    kind: str
    results: Any = None
    work: Any = None


class Shapes:
    """Runs operators on tensors without data."""

    def __init__(self) -> None:
        self.known: dict[Any, Known] = {}

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Known]:
        """(the result, what is known of the call)."""
        key = (func, key_of(args), key_of(tuple(kwargs.items()))) if kwargs else (func, key_of(args))
        known = self.known.get(key)
        if known is not None and known.results is not None:
            return _made(known.results), known
        out = func(*args, **kwargs)
        if known is None:
            known = self.known[key] = _looked_at(func, args, kwargs, out)
        return out, known


def key_of(value: Any) -> Any:
    """Equal for arguments of which the same results come. 1, 1.0 and True are not."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return tuple([key_of(v) for v in value])
    return type(value), value


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)


def storage_of(x: Tensor) -> int:
    """Equal for tensors that share memory."""
    return int(x.untyped_storage()._cdata)


def _looked_at(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Known:
    if func._schema.is_mutable:
        return Known("write")
    results = list(tensors_in([out]))
    given = {storage_of(x) for x in tensors_in((*args, *kwargs.values()))}
    if any(storage_of(x) in given for x in results):
        return Known("view")
    plain = isinstance(out, Tensor) or (isinstance(out, tuple | list) and all(isinstance(x, Tensor) for x in out))
    alone = len({storage_of(x) for x in results}) == len(results)
    if plain and alone and all(x.device.type == META and not x.storage_offset() for x in results):
        return Known("fresh", _layout(out))
    return Known("fresh")


def _layout(out: Any) -> Any:
    if isinstance(out, Tensor):
        return out.shape, out.stride(), out.dtype
    return [_layout(x) for x in out]


def _made(layout: Any) -> Any:
    """New tensors. The kernel is called as it is: a transform of `torch.func` that is under way would take what a
    factory makes for its own."""
    if isinstance(layout, list):
        return tuple([_made(x) for x in layout])
    shape, stride, dtype = layout
    return EMPTY(KEYS, shape, stride, dtype=dtype, device=META)
