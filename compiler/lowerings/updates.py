"""What the rules of a learn make of its weights, told as forms, and what they keep from chunk to chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import affine, memories, rules
from nldsl.compiler.affine import Form, Key, NotAffine
from nldsl.compiler.lowerings import gathering
from nldsl.compiler.lowerings.applied import Updates, applied
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Body, Leaf, Memory, Objective, Rule

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.closed import Ticks


@dataclass(frozen=True)
class Use:
    """A rule at work on one weight. slot: where a learn keeps its states; name: what the weight calls them."""

    learn: Objective
    rule: Rule
    memory: str
    leaf: str
    role: str
    body: Body

    @property
    def slot(self) -> str:
        return f"{self.memory}.{self.leaf} {self.role}"

    @property
    def name(self) -> str:
        return f"{self.learn.id} {self.slot}"


def write(ticks: Ticks, record: Objective) -> None:
    """What a learn writes at every tick."""
    assert record.optimizer is not None and record.retention is not None
    if any(rules.asks(ticks.piece.machine, r, "total_norm") for r in (record.optimizer, record.retention)):
        raise NotAffine("its rule looks at the norm of all gradients")
    found = ticks.found.get(record.id) or gathering.held(ticks, record)
    retentions = {(use.memory, use.leaf): use for use in _uses(ticks, record, record.retention, "retention")}
    for use in _uses(ticks, record, record.optimizer, "optimizer"):
        weight, own = ticks.weight(use.memory, use.leaf), found[f"{use.memory}.{use.leaf}"]
        weight.key = own.key if own.band is None else None
        old = weight.now["w"]
        given: dict[str, Any] = {"w": old, "g": Form({weight.write(own.x, own.known, own.answers, own.band): 1.0})}
        if weight.key is not None:
            given["key"] = Key()
        if "start" in ticks.piece.frame[use.memory]:
            weight.keep("start", ticks.piece.frame[use.memory]["start"][use.leaf])
            given["start"] = weight.now["start"]
        update = _applied(ticks, use, weight, given)
        retention = retentions.get((use.memory, use.leaf))
        if retention is None:
            weight.now["w"] = Form(affine.plus(old.terms, update.terms))
        else:
            weight.now["w"] = _applied(ticks, retention, weight, given | {"u": update})


def _uses(ticks: Ticks, record: Objective, rule: Rule | None, role: str) -> Iterator[Use]:
    assert rule is not None
    for memory, leaf, body in rule.bodies:
        yield Use(record, rule, memory, leaf, role, ticks.piece.machine.bodies[body])


def _applied(ticks: Ticks, use: Use, weight: Weight, given: Mapping[str, Any]) -> Form:
    """What a rule makes of forms, with the states that it keeps from update to update."""
    piece, rule = ticks.piece, use.rule
    before = piece.frame.get(use.learn.id, {}).get("rules", {}).get(use.slot, {})
    batch, heads, count = weight.lead
    for state, held in before.get("frame", {}).items():
        weight.kept[f"{use.name}.{state}"] = held["weights"]["value"].reshape(batch, 1, heads, *weight.shape)
    inputs: dict[str, Any] = {}
    for port in use.body.inputs:
        source = rule.args[int(port.id[3:])] if port.id.startswith("arg") else port.stream
        if not source and port.id not in given:
            raise NotAffine(f"it uses `{port.id}`")
        inputs[port.id] = ticks.value(source) if source else given[port.id]
    done = before.get("count", _none(ticks, weight)).reshape(batch, 1, heads)
    first = piece.number - memories.begun(piece, piece.facts.memories[use.memory])
    assert isinstance(first, int)
    updates = Updates(done + torch.arange(count, device=weight.device).reshape(1, -1, 1), first)
    return applied(weight, use.body, inputs, use.name, updates, piece.machine.facts(use.body).calls)


def keep(ticks: Ticks, record: Objective, states: Mapping[str, Tensor]) -> None:
    """What a learn and its rules keep for the next tick. states: of all weights, after the last tick."""
    before = ticks.piece.frame.get(record.id, {})
    kept = dict(before.get("rules", {}))
    for rule, role in ((record.optimizer, "optimizer"), (record.retention, "retention")):
        for use in _uses(ticks, record, rule, role):
            if rules.keeps_nothing(use.body):
                continue
            weight = ticks.weights[use.memory, use.leaf]
            own = [r for r in use.body.records if isinstance(r, Memory)]
            kept[use.slot] = {
                "count": kept.get(use.slot, {}).get("count", _none(ticks, weight)) + weight.lead[2],
                "frame": {r.id: _kept(states[f"{use.name}.{r.id}"], r.leaves[0]) for r in own},
            }
    left = {n: v for n, v in before.items() if n == "anchor"} | ({"rules": kept} if kept else {})
    if record.id in ticks.buffers:
        left["buffer"] = ticks.buffers[record.id]
    if left:
        ticks.piece.frame[record.id] = left


def _none(ticks: Ticks, weight: Weight) -> Tensor:
    batch, heads, _ = weight.lead
    return torch.zeros(batch * heads, 1, 1, dtype=torch.int64, device=ticks.piece.clock.device)


def _kept(state: Tensor, leaf: Leaf) -> dict[str, Any]:
    batch, _, heads = state.shape[:LEAD]
    return {"weights": {leaf.name: state.reshape(batch * heads, 1, 1, *state.shape[LEAD:])}}
