"""Memories: where they start, when they restart, what a reader sees (rules 10, 15 and 16)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler.masks import LEAD, Clock, Mask, both, choose, either, ends
from torch import Tensor

from nldsl.graph import Leaf, Memory, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.piece import Frame, Piece


def open_memory(piece: Piece, memory: Memory) -> Mask:
    """The memory's tick begins: it restarts where its reset says so, and its learns take the states they hold. Gives
    the copies that restarted."""
    if memory.id not in piece.facts.running:
        return False
    restarts = _restarts(piece, memory)
    if restarts is not False:
        restart(piece, memory, restarts)
    for learn in piece.facts.learns:
        if learn.hold and memory.id in learn.memories:
            _take_hold(piece, memory, learn, either(piece.number % learn.hold_length == 0, restarts))
    return restarts


def _restarts(piece: Piece, memory: Memory) -> Mask:
    """The copies that begin anew before this piece's first tick."""
    mask: Mask = memory.id not in piece.frame
    if piece.renewed:
        mask = either(mask, piece.number == 0)
    if memory.reset_every:
        mask = either(mask, both(piece.number > 0, piece.number % memory.reset_every == 0))
    if memory.reset_when:
        mask = either(mask, of_heads(piece.values[memory.reset_when], memory.heads))
    return mask


def of_heads(condition: Tensor, heads: int) -> Tensor:
    """A condition as a mask over the copies of a memory: one that has no heads goes by the first."""
    return condition if heads else condition[:, :, :1]


def begun(piece: Piece, memory: Memory) -> Clock:
    """The tick at which the memory's windows began."""
    if memory.reset_when:
        return piece.frame[memory.id]["begun"]  # type: ignore[no-any-return]
    return piece.number - piece.number % memory.reset_every if memory.reset_every else 0


def restart(piece: Piece, memory: Memory, where: Mask) -> None:
    """These copies of the memory start again."""
    was: Frame = piece.frame.get(memory.id, {})
    if not was:
        where = True
    now: Frame = {"weights": {}}
    if keeps_start(piece, memory.id):
        now["start"] = {}
    for leaf in memory.leaves:
        fresh = full(piece, memory, leaf, start(piece, memory, leaf.name))
        if "start" in now:
            now["start"][leaf.name] = choose(where, fresh, was["start"][leaf.name] if was else fresh)
        if piece.shift is not None:
            fresh = piece.shift.at_restart(piece, memory.id, leaf.name, fresh)
        now["weights"][leaf.name] = choose(where, fresh, was["weights"][leaf.name] if was else fresh)
    if memory.reset_when:
        number = piece.clock[:, :1]  # not the number itself, which is only the first of many in a traced body
        lead = (piece.batch, 1, max(1, memory.heads))
        before = was["begun"] if was else torch.zeros(lead, dtype=torch.int64, device=piece.clock.device)
        now["begun"] = choose(where, number.expand(lead), before) if was else number.expand(lead)
    piece.frame[memory.id] = now


def keeps_start(piece: Piece, memory: str) -> bool:
    """Whether a retention asks for the start of this memory."""
    return memory in piece.machine.asked_for_start(piece.body)


def full(piece: Piece, memory: Memory, leaf: Leaf, value: Tensor) -> Tensor:
    return value.expand(piece.batch, 1, max(1, memory.heads), *map(int, leaf.shape))


def start(piece: Piece, memory: Memory, leaf: str) -> Tensor:
    """Where a leaf starts, [batch or 1, 1, heads or 1, *shape]."""
    index = [n.name for n in memory.leaves].index(leaf)
    own = drawn(piece, memory, memory.leaves[index])
    if memory.start != "body":
        return own
    body = memory.starts[index]
    inner = piece.within(body, {p.id: own for p in body.inputs})
    inner.ticks = 1
    for record in body.records:
        assert isinstance(record, Stream)
        if record.op == "weight":
            inner.values[record.id] = weight(piece, record.memory, record.leaf, record.mode)
        else:
            inner.values[record.id] = inner.stream(record)
    return inner.values[body.results[0]]  # type: ignore[no-any-return]


def drawn(piece: Piece, memory: Memory, leaf: Leaf) -> Tensor:
    """A leaf's drawn or learned start; inside a rule, that of each copy it serves."""
    shape = tuple(map(int, leaf.shape))
    known = memory
    if piece.path and memory.heads and memory.start == "learned":  # drawn for all copies that the rule serves
        known = replace(memory, heads=memory.heads * piece.lanes)
    value = piece.machine.start_value(piece.parameters, f"{piece.path}{memory.id}.{leaf.name}", known, leaf)
    rows = value.reshape(-1, *shape)
    own = max(1, memory.heads)
    if rows.shape[0] <= own:
        return rows.reshape(1, 1, -1, *shape)  # type: ignore[no-any-return]
    lanes = rows.shape[0] // own
    copies = rows.reshape(1, lanes, own, *shape).expand(piece.batch // lanes, -1, -1, *(-1 for _ in shape))
    return copies.reshape(piece.batch, 1, own, *shape)  # type: ignore[no-any-return]


def _take_hold(piece: Piece, memory: Memory, learn: Objective, where: Mask) -> None:
    """The weights as they stand now are what the learn holds."""
    if where is False:
        return
    kept = piece.frame.get(learn.id, {})
    anchor = dict(kept.get("anchor", {}))
    for name, now in piece.frame[memory.id]["weights"].items():
        key = f"{memory.id}.{name}"
        anchor[key] = choose(where, now, anchor.get(key, now))
    piece.frame[learn.id] = kept | {"anchor": anchor}


def weight(piece: Piece, memory: str, leaf: str, mode: str) -> Tensor:
    """A leaf as a reader in this mode sees it, [batch or 1, 1, heads or 1, *shape]."""
    facts = piece.facts
    record = facts.memories[memory]
    if memory not in facts.running:
        return start(piece, record, leaf)
    if memory not in piece.frame:
        restart(piece, record, True)
    if mode == "seen" and memory in facts.hold:
        return piece.frame[facts.hold[memory].id]["anchor"][f"{memory}.{leaf}"]  # type: ignore[no-any-return]
    return piece.frame[memory]["weights"][leaf]  # type: ignore[no-any-return]


def anchored(piece: Piece, learn: Objective, memory: str, leaf: str) -> Tensor:
    """A weight at the state where this learn takes its gradient."""
    if learn.hold:
        return piece.frame[learn.id]["anchor"][f"{memory}.{leaf}"]  # type: ignore[no-any-return]
    return weight(piece, memory, leaf, "running")


def assign(piece: Piece, stream: Stream, value: Any) -> None:
    """`M <- value` for the copies whose window ends at this tick."""
    if piece.ticks > 1:  # a piece of several ticks is cut before the one that writes
        return
    memory = piece.facts.memories[stream.memory]
    due: Mask = ends(piece.number, begun(piece, memory), stream.every) if stream.every > 1 else True
    if due is False:
        return
    kept = piece.frame[stream.memory]
    old: Tensor = kept["weights"][stream.leaf]
    new = value if isinstance(value, Tensor) else torch.full_like(old[:1, :, :1], float(value))
    if new.dtype is not old.dtype:
        new = new.to(old.dtype)
    new = new.reshape(*new.shape[:LEAD], *(1,) * (old.dim() - new.dim()), *new.shape[LEAD:])
    written = choose(due, new.expand(old.shape), old)
    piece.frame[stream.memory] = kept | {"weights": kept["weights"] | {stream.leaf: written}}
