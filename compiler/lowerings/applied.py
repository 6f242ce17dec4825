"""A rule's body, told as forms of the weight that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import forms
from nldsl.compiler.affine import ROWS, Answer, Form, Key, NotAffine, Outer, plain, scaled, written
from nldsl.compiler.lowerings.weight import Weight
from torch import Tensor

from nldsl.graph import Body, Memory, Stream
from nldsl.torch_forms import Call


@dataclass(frozen=True)
class Updates:
    """The updates of a chunk. count: the number of each tick's, [batch or 1, ticks, heads or 1]. first: that of the
    first tick, right in so far as it decides which states begin anew."""

    count: Tensor
    first: int


def applied(
    weight: Weight, body: Body, inputs: Mapping[str, Any], slot: str, updates: Updates, calls: Mapping[str, Call]
) -> Form:
    """What a rule's body makes of forms. inputs: of its ports. slot: whose states these are. Raises NotAffine."""
    values: dict[str, Any] = dict(inputs)
    for record in body.records:
        if isinstance(record, Memory):
            _open(weight, record, slot, updates)
        elif not isinstance(record, Stream) or record.op.startswith("window_") or record.every > 1:
            raise NotAffine("it keeps something from update to update that is no sum")
        elif record.op == "weight":
            values[record.id] = weight.now[f"{slot}.{record.memory}"]
        elif record.op == "assign":
            new = values[str(record.args[0])] if isinstance(record.args[0], str) else None
            weight.now[f"{slot}.{record.memory}"] = written(weight, new)
        elif record.op == "tick":
            values[record.id] = updates.count.double()
        else:
            values[record.id] = _value(weight, record, values, calls)
    return written(weight, values[body.results[0]])


def _open(weight: Weight, memory: Memory, slot: str, updates: Updates) -> None:
    """A state of the rule. Where it begins anew, nothing of the old one is left."""
    simple = memory.form == "state" and not memory.starts and not memory.reset_when
    if not simple or memory.leaves[0].init != ("constant", 0) or tuple(memory.leaves[0].shape) != weight.shape:
        raise NotAffine("it keeps something from update to update that is no sum")
    name, every = f"{slot}.{memory.id}", memory.reset_every
    weight.keep(name)
    if not every:
        return
    if updates.first % every == 0:
        weight.anew.add(name)
    if (updates.first + weight.lead[2]) % every == 0:
        weight.left.add(name)
    inside = [float((updates.first + t) % every != 0) for t in range(1, weight.lead[2])]
    if not all(inside):
        factor = torch.tensor([1.0, *inside], dtype=weight.dtype, device=weight.device).reshape(1, -1, 1)
        weight.now[name] = Form(scaled(weight.now[name].terms, factor))


def _value(weight: Weight, record: Stream, values: Mapping[str, Any], calls: Mapping[str, Call]) -> Any:
    args = [values[a] if isinstance(a, str) else float(a) for a in record.args]
    of_key = any(isinstance(a, Key) for a in args) and record.op in ("mul", "div", "neg")
    if any(isinstance(a, Form | Answer | Outer) for a in args) or of_key or record.op == "outer":
        try:
            if record.op not in ROWS:
                raise NotAffine(f"`{record.op}` of the weight or the gradient")
            return ROWS[record.op](weight, record, args)
        except NotAffine as reason:
            args = _known(weight, args, reason)
    return forms.apply(record, [plain(weight, a) for a in args], calls[record.id])


def _known(weight: Weight, args: list[Any], reason: NotAffine) -> list[Any]:
    """The same arguments as numbers, tick by tick, where they are known already: what is no sum of gradients may still
    be a map of one (scan, map, scan)."""
    if any(isinstance(a, Answer) for a in args):
        raise reason
    try:
        return [weight.already(a) if isinstance(a, Form) else a for a in args]
    except NotAffine:
        raise reason from None
