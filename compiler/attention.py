"""Attention as a memory: it keeps the pairs themselves, and what a query may see of them (rule 17).

A pair is seen from the last tick of its window on, as long as its memory does not restart and it is among the last
`window` that can be seen. With one learn, and where neither `when` nor `reset when` says otherwise, all of that follows
from the number of its tick. Else each pair carries the tick from which it is seen, the learn it is from, its place in
the order in which pairs come to be seen, and its epoch, which counts the restarts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import memories
from torch import Tensor

from nldsl.graph import Memory, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.piece import Piece


CARRIED = ("from", "source", "order", "epoch")
LATE = 1 << 60


def irregular(piece: Piece, memory: Memory) -> bool:
    learns = _learns(piece, memory)
    return bool(memory.reset_when) or len(learns) > 1 or any(o.when for o in learns)


def _learns(piece: Piece, memory: Memory) -> list[Objective]:
    return [o for o in piece.facts.learns if o.kind == "pairs" and memory.id in o.memories]


def opened(piece: Piece, memory: Memory) -> None:
    """Counts the restarts of each copy, tick by tick."""
    if memory.id not in piece.frame:
        piece.frame[memory.id] = _empty(piece, memory)
    if not irregular(piece, memory):
        return
    lead = (piece.batch, piece.ticks, max(1, memory.heads))
    again = torch.zeros(lead, dtype=torch.bool, device=piece.clock.device)
    if memory.reset_every:
        again = again | ((piece.clock > 0) & (piece.clock % memory.reset_every == 0))
    if memory.reset_when:
        again = again | memories.of_heads(piece.values[memory.reset_when], memory.heads)
    kept = piece.frame[memory.id]
    epochs = kept["epoch_now"] + again.long().cumsum(1)
    number = piece.clock.expand(lead)
    begun = torch.cat([kept["begun"], torch.where(again, number, -1)], dim=1).cummax(1).values[:, 1:]
    piece.values[f"epoch {memory.id}"] = epochs
    piece.values[f"begun {memory.id}"] = begun
    piece.frame[memory.id] = kept | {"epoch_now": epochs[:, -1:], "begun": begun[:, -1:]}


def _empty(piece: Piece, memory: Memory) -> dict[str, Tensor]:
    heads, device = max(1, memory.heads), piece.clock.device
    made = {
        "keys": torch.zeros(piece.batch, 0, heads, memory.key_size, dtype=piece.machine.dtype, device=device),
        "values": torch.zeros(piece.batch, 0, heads, memory.value_size, dtype=piece.machine.dtype, device=device),
    }
    if irregular(piece, memory):
        for name, ticks in (*((name, 0) for name in CARRIED), ("epoch_now", 1), ("begun", 1)):
            made[name] = torch.zeros(piece.batch, ticks, heads, dtype=torch.int64, device=device)
    return made


def keep_pairs(piece: Piece, learn: Objective) -> None:
    """Add the pairs of this piece."""
    memory = piece.facts.memories[learn.memories[0]]
    learns = _learns(piece, memory)
    source = [o.id for o in learns].index(learn.id)
    kept = dict(piece.frame[memory.id]) if source else trimmed(piece, memory)
    lead = (piece.batch, piece.ticks, max(1, memory.heads))
    pair = [piece.values[s] for s in learn.pair]
    if learn.detached:
        pair = [x.detach() for x in pair]
    for name, x in zip(("keys", "values"), pair, strict=True):
        x = x.to(kept[name].dtype)
        kept[name] = torch.cat([kept[name], x.expand(*lead, x.shape[-1])], dim=1)
    if irregular(piece, memory):
        counts = torch.ones(lead, dtype=torch.bool, device=piece.clock.device)
        if learn.when:
            counts = counts & memories.of_heads(piece.values[learn.when], memory.heads)
        epoch, begun = piece.values[f"epoch {memory.id}"], piece.values[f"begun {memory.id}"]
        every = learn.every.count
        since = _seen_from(piece.clock, begun, every)
        longest = max(o.every.count for o in learns)
        order = (since * len(learns) + source) * longest + piece.clock - since + every
        carried = (since, torch.full_like(since, source), order, torch.where(counts, epoch, -1))
        for name, x in zip(CARRIED, carried, strict=True):
            kept[name] = torch.cat([kept[name], x.expand(lead)], dim=1)
    piece.frame[memory.id] = kept
    piece.values[f"kept {memory.id}"] = piece.clock[:, -1:] + 1


def _seen_from(tick: Tensor, begun: Tensor, every: int) -> Tensor:
    return tick + every - 1 - (tick - begun) % every


def trimmed(piece: Piece, memory: Memory) -> dict[str, Any]:
    """The kept pairs, without those that no later query can see."""
    kept, learns = dict(piece.frame[memory.id]), _learns(piece, memory)
    most = memory.window + len(learns) * (max(o.every.count for o in learns) - 1)
    if not memory.window or kept["keys"].shape[1] <= most:
        return kept
    if not irregular(piece, memory):
        return {n: x[:, x.shape[1] - most :] for n, x in kept.items()}
    waits = kept["from"] >= piece.clock[:, :1]  # seen later, be it behind others in the order
    place = torch.where(waits, kept["order"] + LATE, kept["order"])
    latest = torch.where(kept["epoch"] < 0, -1, place).argsort(dim=1, stable=True)[:, -most:]
    for name in CARRIED:
        kept[name] = kept[name].gather(1, latest)
    for name in ("keys", "values"):
        kept[name] = kept[name].gather(1, latest[..., None].expand(*latest.shape, kept[name].shape[-1]))
    return kept


def recall(piece: Piece, stream: Stream, query: Tensor) -> Tensor:
    """The kept values, weighed by softmax(q.k / sqrt(d)); zeros where nothing can be seen."""
    memory = piece.facts.memories[stream.memory]
    kept = piece.frame[memory.id]
    heads = max(1, memory.heads, query.shape[2])
    q = query.to(kept["keys"].dtype).expand(piece.batch, piece.ticks, heads, query.shape[-1]).transpose(1, 2)
    keys, values = (kept[n].expand(-1, -1, heads, -1).transpose(1, 2) for n in ("keys", "values"))
    if plain(piece, stream, memory, kept):
        return attend(piece, memory, q, keys, values, None)
    visible = _visible(piece, stream, memory, kept)
    if memory.persistent:
        own = [memories.start(piece, memory, n)[:, 0].expand(piece.batch, heads, -1, -1) for n in ("keys", "values")]
        keys, values = torch.cat([own[0], keys], dim=2), torch.cat([own[1], values], dim=2)
        always = torch.ones(*visible.shape[:3], memory.persistent, dtype=torch.bool, device=visible.device)
        return attend(piece, memory, q, keys, values, torch.cat([always, visible], dim=-1))
    if not keys.shape[2]:
        return q.new_zeros(piece.batch, piece.ticks, heads, memory.value_size)
    some = visible.any(-1, keepdim=True)
    answer = attend(piece, memory, q, keys, values, visible | ~some)
    return torch.where(some.transpose(1, 2), answer, torch.zeros((), dtype=answer.dtype, device=answer.device))


def plain(piece: Piece, stream: Stream, memory: Memory, kept: dict[str, Any]) -> bool:
    """Whether each query sees just what came before it, and itself."""
    above = any((stream.id, o.id) in piece.facts.above for o in _learns(piece, memory))
    if irregular(piece, memory) or memory.persistent or memory.reset_every or above:
        return False
    fits = not memory.window or piece.ticks <= memory.window
    once = all(o.every.count == 1 for o in _learns(piece, memory)) and f"kept {memory.id}" in piece.values
    return fits and once and kept["keys"].shape[1] == piece.ticks


def _visible(piece: Piece, stream: Stream, memory: Memory, kept: dict[str, Any]) -> Tensor:
    """[batch or 1, heads or 1, ticks, pairs]."""
    count, learns = kept["keys"].shape[1], _learns(piece, memory)
    above = [(stream.id, o.id) in piece.facts.above for o in learns]
    now = piece.clock
    if irregular(piece, memory):
        since, source, order, epoch = (kept[name] for name in CARRIED)
        current = piece.values[f"epoch {memory.id}"]
    else:
        end = piece.values[f"kept {memory.id}"] if f"kept {memory.id}" in piece.values else now[:, :1]
        tick = end - count + torch.arange(count, device=now.device).reshape(1, -1, 1)
        length = memory.reset_every
        begun = tick - tick % length if length else torch.zeros_like(tick)
        since, source, order = _seen_from(tick, begun, learns[0].every.count), torch.zeros_like(tick), tick
        epoch = tick // length if length else torch.zeros_like(tick)
        current = now // length if length else torch.zeros_like(now)
    since, source, order, epoch = (x.transpose(1, 2)[:, :, None] for x in (since, source, order, epoch))
    at, current = now.transpose(1, 2)[..., None], current.transpose(1, 2)[..., None]
    # A read above sees it a tick later. (Made on the CPU: inside a gradient the meta device can't make it itself.)
    later = torch.tensor(above, dtype=torch.int64).to(now.device)[source]
    seen: Tensor = (since + later <= at) & (epoch == current)
    return _newest(seen, order, memory.window) if memory.window and count else seen


def _newest(seen: Tensor, order: Tensor, window: int) -> Tensor:
    """Of those that are seen, the last `window` in the order."""
    places = order.argsort(dim=-1).expand_as(seen)
    sorted_ = seen.gather(-1, places)
    newer = sorted_.flip(-1).cumsum(-1).flip(-1)
    return (sorted_ & (newer <= window)).gather(-1, places.argsort(dim=-1))


def attend(piece: Piece, memory: Memory, q: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax attention, [batch, ticks, heads, value_size]. Where a gradient is taken of a gradient, torch's fused
    forms have none, and it is written out."""
    scale = memory.key_size**-0.5
    if not piece.second_order:
        low = piece.machine.low or q.dtype
        q, keys, values = q.to(low), keys.to(low), values.to(low)
        answer = torch.nn.functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=visible, is_causal=visible is None, scale=scale
        )
        return answer.transpose(1, 2).to(piece.machine.dtype)
    if visible is None:
        count = q.shape[2]
        visible = torch.ones(count, count, dtype=torch.bool, device=q.device).tril()
    scores = (q @ keys.mT * scale).masked_fill(~visible, -torch.inf)
    return (torch.softmax(scores, dim=-1) @ values).transpose(1, 2)
