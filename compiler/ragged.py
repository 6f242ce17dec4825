"""Rows of different lengths: those that stand at the same tick run together, where they have tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from nldsl.compiler import state as states
from nldsl.compiler.state import State
from torch import Tensor

from nldsl.graph import Port

if TYPE_CHECKING:
    from nldsl.compiler.runner import Runner

# Outputs, losses, where these are known, the state after, the gradients of local objectives on the step clock.
Read = tuple[list[Tensor], Tensor, Tensor, State, dict[str, dict[str, Tensor]]]


def read(
    runner: Runner,
    streams: Mapping[str, Tensor],
    state: State,
    mask: Tensor,
    named: Mapping[str, Tensor],
    truncate: int,
) -> Read:
    """Read what a mask [batch, ticks] leaves, part by part. What is not read has zeros for outputs."""
    ports, device = runner.graph.outs, runner.device
    batch, ticks = mask.shape
    shape = (batch, ticks)
    outs: list[Tensor | None] = [None] * len(ports)
    losses = torch.zeros(shape, dtype=runner.dtype, device=device)
    known = torch.zeros(shape, dtype=torch.bool, device=device)
    local: dict[str, dict[str, Tensor]] = {}
    done: list[states.Part] = []
    todo = [(part, 0) for part in state["parts"]]
    while todo:
        part, begin = todo.pop(0)
        if begin == ticks:
            done.append(part)
            continue
        own = mask[part["rows"], begin:]
        _, end, on = next(states.pieces(part, own))
        idle, going = states.chosen(part, ~on), states.chosen(part, on)
        if not bool(on.all()):
            todo.append((idle, begin + end))
        if not bool(on.any()):
            continue
        rows = going["rows"]
        given = {n: x[rows, begin : begin + end] for n, x in streams.items()}
        ran = runner.run(given, states.kept(going), int(going["tick"]), named, truncate)
        place = (rows[:, None], torch.arange(begin, begin + end, device=device))
        for i, (port, x) in enumerate(zip(ports, ran.outs, strict=True)):
            value = out(port, x)
            whole = value.new_zeros(*shape, *value.shape[2:]) if outs[i] is None else outs[i]
            outs[i] = whole.index_put(place, value)  # type: ignore[union-attr]
        losses = losses.index_put(place, ran.losses.to(losses.dtype))
        known[place] = torch.arange(end, device=device) >= ran.known
        for learn, sums in ran.local.items():
            total = local.setdefault(learn, {})
            for name, g in sums.items():
                total[name] = total[name] + g if name in total else g
        todo.append((states.part_after(going, end, ran.state), begin + end))
    found = [_unread(runner, p, shape) if x is None else x for p, x in zip(ports, outs, strict=True)]
    return found, losses, known, state | {"parts": done}, local


def _unread(runner: Runner, port: Port, shape: tuple[int, int]) -> Tensor:
    """An output where the mask leaves no token at all."""
    sizes = ([port.heads] if port.heads else []) + [int(n) for n in port.shape]
    kinds = {"real": runner.dtype, "int": torch.int64, "bool": torch.bool}
    return torch.zeros(*shape, *sizes, dtype=kinds[port.dtype], device=runner.device)


def out(port: Port, x: Tensor) -> Tensor:
    """An output as it is given: without an axis of heads where it has none."""
    return x if port.heads else x.squeeze(2)  # not an index: its gradient would fill a tensor with zeros first
