"""The gradients of a chunk's ticks, as what is written to each weight: x r^T, or whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import buffers, gradients, memories
from nldsl.compiler.affine import NotAffine, Number, scaled
from nldsl.compiler.lowerings import quadratic
from nldsl.compiler.lowerings.quadratic import Part
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.masks import LEAD, Mask, factor
from torch import Tensor

from nldsl.graph import Body, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.closed import Ticks


@dataclass(frozen=True)
class Found:
    """A gradient at every tick: x (known + sum of number * answer)^T, x [B, H, T, n], known [B, H, T, m]; or, without
    x, known as a whole, [batch, ticks, heads, *shape]. key: the rows that a matrix was used with. band: [ticks,
    tokens], where ticks learn from several tokens."""

    x: Tensor | None
    known: Tensor
    answers: Mapping[int, Number] = field(default_factory=dict)
    key: Tensor | None = None
    band: Tensor | None = None


def windowed(ticks: Ticks, record: Objective) -> dict[str, Found]:
    """The gradients of sliding windows at what the learn holds: each token's once, and which ticks they count for."""
    piece = ticks.piece
    if not record.over or record.times > 1 or record.weights or record.hold != "gradient":
        raise NotAffine("it does not write every token from that token alone")
    masks: dict[str, Mask] = dict.fromkeys(record.memories, True)
    rows = buffers.all_ticks(piece, record, piece.frame.get(record.id, {}).get("buffer"), masks)
    rows = buffers.last(rows, record.over - 1 + piece.ticks)
    count, weight = rows["weight"].shape[1], rows["weight"]
    if weight.dim() > LEAD:
        raise NotAffine("what a token counts for changes with its age")
    scale: list[Tensor | None] = [
        weight * factor(rows["active"][record.memories[i]], weight) for i in range(len(record.bodies))
    ]
    streams = [rows["captured"][f"{i}"] for i in range(len(record.bodies))]
    gradient = gradients.gradient(piece, record, streams, count, scale, each=True, factored=True)
    age = torch.arange(piece.ticks, device=piece.clock.device)[:, None] + count - piece.ticks
    age = age - torch.arange(count, device=piece.clock.device)
    band = ((age >= 0) & (age < record.over)).to(piece.machine.dtype)
    ticks.buffers[record.id] = buffers.last(rows, record.over)
    given = {"d": {n: f[1] for n, f in gradient.factors.items()}, "x": {n: f[0] for n, f in gradient.factors.items()}}
    return _held(ticks, record, given | {"whole": gradient.whole, "keys": gradient.keys}, band)


def held(ticks: Ticks, record: Objective) -> dict[str, Found]:
    """Gradients that were taken before, at what the learn holds."""
    return _held(ticks, record, ticks.piece.values[f"gradient {record.id}"], None)


def _held(ticks: Ticks, record: Objective, given: Mapping[str, Any], band: Tensor | None) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for memory in record.memories:
        for leaf in ticks.piece.facts.memories[memory].leaves:
            name = f"{memory}.{leaf.name}"
            weight = ticks.weight(memory, leaf.name)
            lead = (weight.lead[0], weight.lead[2] if band is None else band.shape[1], weight.lead[1])
            own = {
                part: given[part][name].to(weight.dtype) for part in ("x", "d", "whole", "keys") if name in given[part]
            }
            if "d" in own:
                x, d = (own[part].expand(*lead, -1).transpose(1, 2) for part in ("x", "d"))
                found[name] = Found(x, d, key=x, band=band)
                continue
            key = own["keys"].expand(*lead, -1).transpose(1, 2) if "keys" in own else None
            found[name] = Found(None, own["whole"].expand(*lead, *weight.shape), key=key, band=band)
    return found


def at_running_weight(ticks: Ticks, record: Objective) -> dict[str, Found]:
    """Gradients at the weights as they run, affine in what these answer."""
    if record.detached:
        raise NotAffine("gradients are data, and each needs the weight that the one before wrote")
    if len(record.bodies) != len(record.memories):
        raise NotAffine("its memories share an objective")
    found = {}
    for index, (memory, body) in enumerate(zip(record.memories, record.bodies, strict=True)):
        scale = ticks.scale(record, index)
        for leaf, made in _Answered(ticks, body, memory).found().items():
            if scale is not None:
                rows = scale.transpose(1, 2)[..., None]
                made = replace(made, known=made.known * rows, answers=scaled(made.answers, scale))
            found[f"{memory}.{leaf}"] = made
    return found


@dataclass(frozen=True)
class Product:
    """Rows times a weight, in an objective's body. own: whether the gradient goes through it."""

    weight: Weight
    leaf: str
    rows: Tensor
    reading: int
    own: bool


class _Answered:
    """An objective's body, run once on parts and once where all that the memory answers is 0."""

    def __init__(self, ticks: Ticks, body: Body, memory: str) -> None:
        self.ticks, self.body, self.memory = ticks, body, memory
        self.calls = ticks.piece.machine.facts(body).calls
        self.given = {p.id: ticks.value(p.stream) for p in body.inputs}
        self.products: dict[str, Product] = {}  # by stream

    def found(self) -> dict[str, Found]:
        values: dict[str, Any] = dict(self.given)
        for record in self.body.records:
            assert isinstance(record, Stream)
            values[record.id] = self._part(record, values)
        own = {name: p for name, p in self.products.items() if p.own}
        leaves = [leaf.name for leaf in self.ticks.piece.facts.memories[self.memory].leaves]
        if sorted(p.leaf for p in own.values()) != sorted(leaves):
            raise NotAffine("each gradient needs the weight that the one before wrote")
        part = values[self.body.results[0]]
        known = self._at_zero(own)
        return {p.leaf: Found(p.rows, known[name], self._answers(part, name), p.rows) for name, p in own.items()}

    def _answers(self, part: Any, own: str) -> dict[int, Number]:
        """The answers that the gradient at one product is affine in."""
        slope = quadratic.slope(part, own) if isinstance(part, Part) else {}
        if any(self.products[name].weight is not self.products[own].weight for name in slope):
            raise NotAffine("its weights answer together")
        return {self.products[name].reading: c for name, c in slope.items()}

    def _part(self, record: Stream, values: dict[str, Any]) -> Any:
        args = [values[a] if isinstance(a, str) else float(a) for a in record.args]
        if record.op == "weight":
            return self._weight(record)
        if any(isinstance(a, Weight) for a in args):
            return self._product(record, *args)
        if any(isinstance(a, Part) for a in args):
            return quadratic.made(record, args)
        return self._known(record, values)

    def _weight(self, record: Stream) -> Any:
        if record.memory == self.memory:
            return self.ticks.weight(record.memory, record.leaf)
        if record.memory in self.ticks.loop.memories:
            raise NotAffine("what it learns from depends on another memory of the same tick")
        self.ticks.apart(record.memory)
        return memories.weight(self.ticks.piece, record.memory, record.leaf, record.mode)

    def _product(self, record: Stream, x: Any, weight: Any = None) -> Part:
        if record.op != "matmul" or not isinstance(x, Tensor) or self.calls[record.id].ranks != (1, 2):
            raise NotAffine(f"its objective takes `{record.op}` of the weight, or of what it answers")
        source = next(r for r in self.body.records if r.id == record.args[1])
        assert isinstance(source, Stream)
        rows = weight.rows(x)
        reading = weight.read(rows, weight.now["w"])
        self.products[record.id] = Product(weight, source.leaf, rows, reading, source.mode == "self")
        return Part({record.id: 1.0})

    def _known(self, record: Stream, values: dict[str, Any]) -> Any:
        return self.ticks.piece.within(self.body, values).stream(record)

    def _at_zero(self, own: Mapping[str, Product]) -> dict[str, Tensor]:
        """The gradients with respect to the products where all of them are 0, [B, H, T, m]."""

        def zero(product: Product) -> Tensor:
            batch, heads, count = product.weight.lead
            return product.rows.new_zeros(batch, count, heads, product.weight.shape[-1])

        def total(answers: dict[str, Tensor]) -> Tensor:
            values: dict[str, Any] = self.given | {n: zero(p) for n, p in self.products.items()} | answers
            for record in self.body.records:
                assert isinstance(record, Stream)
                if record.op == "weight":
                    values[record.id] = self._weight(record)
                elif record.id not in self.products:
                    values[record.id] = self._known(record, values)
            return values[self.body.results[0]].expand(self.ticks.piece.batch, self.ticks.piece.ticks, -1).sum()  # type: ignore[no-any-return]

        found: dict[str, Tensor] = torch.func.grad(total)({n: zero(p) for n, p in own.items()})
        return {n: g.transpose(1, 2) for n, g in found.items()}
