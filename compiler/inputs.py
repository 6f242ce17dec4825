"""What a call is given, looked at once before anything runs. Everything here raises ValueError with the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nldsl.graph import LevelGraph, Port


def by_place(graph: LevelGraph, given: tuple[Any, ...], state: Any, mask: Any) -> tuple[tuple[Any, ...], Any, Any]:
    """(streams, state, mask) of a call's arguments: a state and a mask may follow the streams by their place."""
    count = len(graph.tick.inputs)
    extra = given[count:]
    if extra and state is None:
        state, extra = extra[0], extra[1:]
    if extra and mask is None:
        mask, extra = extra[0], extra[1:]
    if extra or len(given) < count:
        names = ", ".join(f"`{p.id}`" for p in graph.tick.inputs)
        raise ValueError(f"`{graph.program}` is over {names}: give {count}, then perhaps a state and a mask")
    return given[:count], state, mask


def stream(port: Port, x: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An input as it is computed with, [batch, ticks, heads or 1, *shape]."""
    sizes = ([port.heads] if port.heads else []) + [int(n) for n in port.shape]
    wanted = f"`{port.id}` must be {'integers' if port.dtype == 'int' else 'numbers'} ["
    wanted += ", ".join(["batch", "ticks", *map(str, sizes)]) + "]"
    if not isinstance(x, Tensor):
        raise ValueError(f"{wanted} in a tensor, not {type(x).__name__}")
    if x.dim() < 2 or list(x.shape[2:]) != sizes:
        one = f"; a single sequence is `{port.id}.unsqueeze(0)`" if x.dim() and list(x.shape[1:]) == sizes else ""
        raise ValueError(f"{wanted}, not {list(x.shape)}{one}")
    whole = not (x.is_floating_point() or x.is_complex() or x.dtype is torch.bool)
    if whole != (port.dtype == "int") or x.is_complex():
        raise ValueError(
            f"{wanted}, not {x.dtype}; convert it by `{port.id}.{'long' if port.dtype == 'int' else 'float'}()`"
        )
    if x.device != device:
        raise ValueError(f"`{port.id}` is on {x.device} and the module on {device}; move one of them by `.to(…)`")
    value: Tensor = x.long() if whole else x.to(dtype)
    return value if port.heads else value.unsqueeze(2)


def same_ticks(streams: tuple[Tensor, ...]) -> tuple[int, int]:
    """(batch, ticks), which all streams share."""
    batch, ticks = streams[0].shape[:2]
    if any(x.shape[:2] != (batch, ticks) for x in streams):
        found = ", ".join(f"[{x.shape[0]}, {x.shape[1]}]" for x in streams)
        raise ValueError(f"the streams must have the same batch and number of ticks, not {found}")
    if not ticks or not batch:
        raise ValueError(f"there is nothing to read in [{batch}, {ticks}]; give at least one row of one tick")
    return batch, ticks


def mask_of(mask: Any, batch: int, ticks: int, device: torch.device) -> Tensor | None:
    wanted = f"`mask` must be bool [{batch}, {ticks}], True where there is a token"
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise ValueError(f"{wanted}, not {type(mask).__name__}")
    if tuple(mask.shape) != (batch, ticks) or mask.dtype is not torch.bool:
        raise ValueError(f"{wanted}, not {mask.dtype} {list(mask.shape)}")
    return mask.to(device)


def known_tokens(sizes: Mapping[str, int], streams: Mapping[str, Tensor], mask: Tensor | None, program: str) -> None:
    """Looks for tokens that a program does not know, where there are any by the mask. sizes: by input."""
    for name, size in sizes.items():
        x = streams[name] if mask is None else streams[name][mask]
        if not x.numel() or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
            continue
        low, high = torch.stack(torch.aminmax(x)).tolist()  # one wait for the device
        if low < 0 or high >= size:
            raise ValueError(
                f"`{name}` holds {low if low < 0 else high}, and `{program}` knows 0 to {size - 1}; give it a larger "
                "vocabulary, or leave padding out by `mask`"
            )
