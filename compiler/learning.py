"""What happens at a `learn` (rules 6 to 11, 13 and 17): gradients are gathered, windows that are full are written.

A learn has two parts. "gather" takes the gradients of all ticks of a piece; "write" adds them to the open window and
writes it when it is full. A piece of several ticks is only cut so that no window ends before its last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import attention, buffers, gradients, memories, rules, weighing
from nldsl.compiler.masks import Mask, both, choose, either, ends, head, negated, spread
from torch import Tensor

from nldsl.graph import Objective, Rule

if TYPE_CHECKING:
    from nldsl.compiler.piece import Frame, Piece


def learn(piece: Piece, record: Objective, part: str) -> None:
    """One learn over the ticks of a piece. part: "gather", "write", or "" for both."""
    if record.kind == "pairs":
        attention.keep_pairs(piece, record)
    elif record.kind == "loss":
        if record.every.unit == "token":
            _note(piece, record)
    else:
        if part != "write":
            gather(piece, record)
        if part != "gather" and record.every.unit != "step":
            write(piece, record)


def _note(piece: Piece, record: Objective) -> None:
    """What a learn from `loss` needs of these ticks when its segment closes: which copies count, factors, rates."""
    piece.values[f"active {record.id}"] = {m: weighing.active(piece, record, m) for m in record.memories}
    piece.values[f"weights {record.id}"] = weighing.factors(piece, record)
    piece.values[f"rates {record.id}"] = rates(piece, record)


def rates(piece: Piece, record: Objective) -> dict[str, Tensor]:
    """The streams that the rules take, by name, at the last tick."""
    names: set[str] = set()
    for rule in (record.optimizer, record.retention):
        if rule is not None:
            names |= set(rule.args)
            names |= {p.stream for _, _, b in rule.bodies for p in piece.machine.bodies[b].inputs if p.stream}
    return {n: head(piece.values[n], slice(-1, None)) for n in sorted(names)}


# Gathering


def tickwise(record: Objective) -> bool:
    """Whether each tick's own gradient is wanted, not only their sum."""
    return record.every.unit != "step" and (record.every.count == 1 or bool(record.hold))


def gather(piece: Piece, record: Objective) -> None:
    if buffers.needed(record):
        return
    each = tickwise(record)
    apart = each and piece.ticks > 1
    found = weighing.weighed(
        piece, record, gradients.captured(piece, record), piece.ticks, None, each or piece.ticks == 1, apart
    )
    piece.values[f"gradient {record.id}"] = {
        "whole": found.whole, "x": {n: f[0] for n, f in found.factors.items()},
        "d": {n: f[1] for n, f in found.factors.items()}, "keys": found.keys,
    }  # fmt: skip


# Writing


def write(piece: Piece, record: Objective) -> None:
    """Adds the ticks of a piece to the open window; if it ends with them, the copies that counted take their update."""
    begun = {m: memories.begun(piece, piece.facts.memories[m]) for m in record.memories}
    last = piece.number + piece.ticks - 1
    due = {m: ends(last, begun[m], record.every.count) for m in record.memories}
    masks = {m: weighing.active(piece, record, m) for m in record.memories}
    kept = dict(piece.frame.get(record.id, {}))
    counted = {m: mask if mask is True else _counted(kept, m, mask) for m, mask in masks.items()}
    on = {m: both(counted[m], due[m]) for m in record.memories}
    kept_rules = dict(kept.get("rules", {}))
    if buffers.needed(record):
        kept["buffer"] = buffers.with_ticks(piece, record, kept.get("buffer"), masks)
        rows = kept["buffer"]
        if any(mask is not False for mask in on.values()):
            for _ in range(record.times):
                found = buffers.gradient(piece, record, rows)
                apply(piece, record, found.whole, _latest(found.keys), rates(piece, record), on, kept_rules)
        if not record.over:
            kept["buffer"] = buffers.left(rows, due)
    else:
        found_now = piece.values[f"gradient {record.id}"]
        sums = _added(piece, record, kept.get("sum", {}), found_now, masks)
        if any(mask is not False for mask in on.values()):
            apply(piece, record, sums, _latest(found_now["keys"]), rates(piece, record), on, kept_rules)
        kept["sum"] = _emptied(sums, due)
    left = {m: both(c, negated(due[m])) for m, c in counted.items() if c is not True}
    kept["counted"] = {m: _kept(piece, m, c) for m, c in left.items() if isinstance(c, Tensor)}
    kept["rules"] = kept_rules
    piece.frame[record.id] = {n: v for n, v in kept.items() if v}


def _latest(keys: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: head(k, slice(-1, None)) for n, k in keys.items()}


def _kept(piece: Piece, memory: str, mask: Tensor) -> Tensor:
    """A mask with its batch and heads written out, as a state has them."""
    return mask.expand(piece.batch, 1, max(1, piece.facts.memories[memory].heads))


def _counted(kept: Frame, memory: str, mask: Any) -> Mask:
    """Whether a tick of the open window counted. (Without `when` its last one does.)"""
    return either(kept.get("counted", {}).get(memory, False), mask.any(1, keepdim=True))


def _added(
    piece: Piece, record: Objective, before: Mapping[str, Tensor], found: Mapping[str, Any], masks: Mapping[str, Mask]
) -> dict[str, Tensor]:
    """The window's sums with the ticks of this piece, those that count."""
    gradient = dict(found["whole"])
    for name, d in found["d"].items():
        gradient[name] = found["x"][name].unsqueeze(-1) * d.unsqueeze(-2)
    sums = {}
    for name, g in gradient.items():
        mask = masks[next(m for m in record.memories if name.startswith(f"{m}."))]
        if mask is not True and g.shape[1] == piece.ticks and (piece.ticks == 1 or tickwise(record)):
            g = torch.where(spread(mask, g.dim()), g, torch.zeros_like(g))  # type: ignore[arg-type]
        g = g.sum(1, keepdim=True) if g.shape[1] > 1 else g
        sums[name] = before[name] + g if name in before else g
    return sums


def _emptied(sums: dict[str, Tensor], due: Mapping[str, Mask]) -> dict[str, Tensor]:
    left = {}
    for name, g in sums.items():
        mask = due[next(m for m in due if name.startswith(f"{m}."))]
        if mask is not True:
            left[name] = choose(mask, torch.zeros_like(g), g)
    return left


def apply(
    piece: Piece,
    record: Objective,
    sums: Mapping[str, Tensor],
    keys: Mapping[str, Tensor],
    streams: Mapping[str, Tensor],
    on: Mapping[str, Mask],
    kept_rules: dict[str, Any],
) -> None:
    """One update: new weights for the copies that are due."""
    assert record.optimizer is not None and record.retention is not None
    pair: tuple[Rule, Rule] = (record.optimizer, record.retention)
    norm = rules.total_norm(sums) if any(rules.asks(piece.machine, r, "total_norm") for r in pair) else None
    news: dict[str, dict[str, Tensor]] = {}
    for memory, leaf, _ in record.optimizer.bodies:
        mask = on[memory]
        if mask is False:
            continue
        known = piece.facts.memories[memory]
        old: Tensor = piece.frame[memory]["weights"][leaf]
        g = sums[f"{memory}.{leaf}"].expand(old.shape)
        if mask is not True:  # a rule must not be able to spoil the gradients of copies that it does not serve
            g = choose(mask, g, torch.ones_like(g))
        given = {"g": g, "w": old}
        if norm is not None:
            given["total_norm"] = norm if known.heads else norm[:, :, :1]
        if f"{memory}.{leaf}" in keys:
            given["key"] = keys[f"{memory}.{leaf}"]
        if "start" in piece.frame[memory]:
            given["start"] = piece.frame[memory]["start"][leaf]
        place = rules.Place(memory, leaf, max(1, known.heads))
        by_count = known.reset_every and not isinstance(piece.number, int)  # inside a rule: copy by copy
        # Copies that have not counted yet have not begun: what their rules start from is still open to gradients.
        renewed = bool(known.reset_when or by_count or piece.renewed or mask is not True)
        new = rules.updated(piece, pair, place, given, streams, kept_rules, mask, renewed)
        news.setdefault(memory, {})[leaf] = choose(mask, new, old)
    for memory, weights in news.items():
        held = piece.frame[memory]
        piece.frame[memory] = held | {"weights": held["weights"] | weights}


def forget(piece: Piece, record: Objective, memory: Any, where: Mask) -> None:
    """A learn without what these copies of a memory had gathered: their windows begin at this tick."""
    kept: Frame = dict(piece.frame.get(record.id, {}))
    if not kept:
        return
    own = f"{memory.id}."
    if "counted" in kept:
        kept["counted"] = {
            m: choose(where, torch.zeros_like(c), c) if m == memory.id else c for m, c in kept["counted"].items()
        }
    if "sum" in kept:
        kept["sum"] = {
            n: choose(where, torch.zeros_like(g), g) if n.startswith(own) else g for n, g in kept["sum"].items()
        }
    if "buffer" in kept:
        marks = kept["buffer"]["active"]
        off = buffers.marks_of(piece, where)
        kept["buffer"] = kept["buffer"] | {"active": {m: x & ~off if m == memory.id else x for m, x in marks.items()}}
    if "rules" in kept:
        kept["rules"] = rules.forgotten(where, kept["rules"], memory.id, memory.heads)
    piece.frame[record.id] = kept
