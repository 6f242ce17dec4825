"""Which ticks write: the windows that are full, as far as a tick in them counts (rules 9, 11 and 12)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from nldsl.compiler.doctor.writers import Writer
from torch import Tensor

from nldsl.graph import Memory


def share(writer: Writer, memory: Memory, shown: Mapping[str, Tensor], ticks: int, ahead: bool) -> float:
    """The share of ticks, over sequences and heads, at which a writer writes this memory.

    shown: its condition and the memory's `reset when`, [batch, ticks, (heads)]. ahead: whether a learn from the loss
    waits for the token behind a window's last.
    """
    clock = torch.arange(ticks).reshape(1, ticks, 1)
    begun = _begun(memory, shown, clock) if writer.kind != "loss" else torch.zeros_like(clock)
    due = (clock + 1 - begun) % writer.every == 0
    if writer.kind == "loss" and ahead:
        due[:, -1:] = False
    if writer.when:
        active = heads_last(shown[writer.when], memory.heads)
        total = torch.cat([torch.zeros_like(active[:, :1], dtype=torch.int64), active.long().cumsum(1)], dim=1)
        before = (clock + 1 - writer.every).clamp(min=0)
        batch, heads = active.shape[0], max(active.shape[2], due.shape[2])
        earlier = total.expand(batch, -1, heads).gather(1, before.expand(batch, -1, heads))
        due = due & (total[:, 1:] > earlier)
    return float(due.double().mean())


def _begun(memory: Memory, shown: Mapping[str, Tensor], clock: Tensor) -> Tensor:
    """The tick at which the windows of each copy began."""
    if memory.reset_when:
        again = heads_last(shown[memory.reset_when], memory.heads)
        return torch.where(again, clock, 0).cummax(1).values
    return clock - clock % memory.reset_every if memory.reset_every else torch.zeros_like(clock)


def heads_last(condition: Tensor, heads: int) -> Tensor:
    """A condition [batch, ticks] or [batch, ticks, heads] for the copies of a memory: without heads it goes by the
    first, as a running memory does."""
    spread = condition.reshape(*condition.shape[:2], -1)
    return spread if heads else spread[:, :, :1]
