"""Nested dictionaries and lists of tensors as flat lists, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Form = Any  # Tensor, ("dict", (name, form), ...), ("list", form, ...) or ("is", value)


def flattened(value: Any, tensors: list[Tensor], name: Callable[[str], str] = str) -> Form:
    """The form of a value, its tensors put aside; everything else is part of the form. name: what names become."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if isinstance(value, dict):
        return ("dict", *((name(n), flattened(v, tensors, name)) for n, v in value.items()))
    if isinstance(value, list):
        return ("list", *(flattened(v, tensors, name) for v in value))
    return ("is", value)


def restored(form: Form, tensors: Iterator[Tensor], name: Callable[[str], str] = str) -> Any:
    """The value that has this form and these tensors."""
    if form is Tensor:
        return next(tensors)
    kind, *rest = form
    if kind == "dict":
        return {name(n): restored(f, tensors, name) for n, f in rest}
    if kind == "list":
        return [restored(f, tensors, name) for f in rest]
    return rest[0]


def counted(form: Form) -> int:
    """How many tensors a form has."""
    if form is Tensor:
        return 1
    kind, *rest = form
    return sum(counted(f[1] if kind == "dict" else f) for f in rest) if kind in ("dict", "list") else 0


def paths(form: Form, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each tensor of a form stands: the names and places that lead to it."""
    if form is Tensor:
        yield path
        return
    kind, *rest = form
    if kind in ("dict", "list"):
        for i, inner in enumerate(rest):
            name, value = inner if kind == "dict" else (i, inner)
            yield from paths(value, (*path, name))


def detached(state: Any) -> Any:
    """The same state as data. What inference mode made is copied outside of it, where gradients need more."""
    if isinstance(state, Tensor):
        if torch.compiler.is_compiling():
            return state.detach()
        made = state.is_inference() and not torch.is_inference_mode_enabled()
        return state.clone() if made else state.detach()
    if isinstance(state, dict):
        return {k: detached(v) for k, v in state.items()}
    if isinstance(state, list):
        return [detached(v) for v in state]
    return state


def appended(a: Any, b: Any) -> Any:
    """Nested dictionaries of tensors, each behind the one before it in time."""
    return {n: appended(a[n], b[n]) for n in b} if isinstance(b, dict) else torch.cat([a, b], dim=1)
