"""A loop's ticks all at once, where what is written is affine in the running weights (see `weight.py`).

The records of a tick are told once, as forms of the weights they write; then every read, and the weights at the end,
are a few products over all ticks. What a held state or gradient says is known; a gradient at the running weight may be
affine in what the weight answers, and so may what a retention erases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nldsl.compiler import affine, buffers, memories, weighing
from nldsl.compiler.affine import Answer, Form, NotAffine, Outer
from nldsl.compiler.dependences import origins
from nldsl.compiler.lowerings import gathering, kernels, reasons, trial, updates
from nldsl.compiler.lowerings.trial import Tried
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Memory, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.distribute import Loop
    from nldsl.compiler.piece import Frame, Piece


MOST = 256  # ticks at once: some of the work grows with their square
BRIEF = 16  # where every tick has its own states, or every two ticks a number for every row, it is room that counts


def tried(loop: Loop, machine: Any) -> Tried:
    """Whether and why a loop can run like this: it is tried out on tensors without numbers."""
    ticks = _Unsolved(trial.piece(loop, machine), loop)
    try:
        ticks.run()
    except NotAffine as reason:
        return Tried(str(reason))
    brief = any(weight.mapped or weight.by_row for weight in ticks.weights.values())
    names = kernels.names(ticks.weights.values())
    because = {memory: reasons.of(ticks, memory, names) for memory in loop.memories}
    return Tried("", because, BRIEF if brief else MOST, names)


def run(piece: Piece, loop: Loop) -> bool:
    """Run a loop's ticks at once. False for one tick, which has nothing to gain."""
    if piece.ticks == 1:
        return False
    Ticks(piece, loop).run()
    return True


class Ticks:
    """Some ticks of a loop. weights: those it writes. told: streams that are forms or answers of a weight.
    products: matrices of known rows. waiting: streams that are computed when they are asked for."""

    def __init__(self, piece: Piece, loop: Loop) -> None:
        self.piece, self.loop = piece, loop
        self.weights: dict[tuple[str, str], Weight] = {}  # by memory and leaf
        self.told: dict[str, tuple[Weight, Form | Answer]] = {}
        self.products: dict[str, Outer] = {}
        self.refused: dict[str, str] = {}  # streams that are no forms, and why
        self.waiting: dict[str, Stream] = {}
        self.found: dict[str, dict[str, gathering.Found]] = {}
        self.buffers: dict[str, Frame] = {}  # by learn: the tokens that its windows still reach
        self.settled = False

    def run(self) -> None:
        for record, part in self.loop.nodes:
            if isinstance(record, Memory):
                self._open(record)
            elif isinstance(record, Stream):
                self._stream(record)
            elif record.kind != "local":
                raise NotAffine("attention is kept tick by tick")
            else:
                self._learn(record, part)
        for weight in self.weights.values():
            weight.settle()
        self.settled = True
        for name in self.piece.machine.gives(self.loop.nodes):
            if name in self.waiting or name in self.told or name in self.products:
                self.piece.values[name] = self.value(name)
        self._finish()

    # What a record says

    def _open(self, memory: Memory) -> None:
        if memory.reset_every or memory.reset_when:
            raise NotAffine("it may restart at any tick")
        if any(o.hold and memory.id in o.memories for o in self.piece.facts.learns):
            raise NotAffine("what it holds may change at any tick")
        if memory.form == "attention":
            raise NotAffine("attention is kept tick by tick")
        self.piece.open(memory)

    def weight(self, memory: str, leaf: str) -> Weight:
        if (memory, leaf) not in self.weights:
            if memory not in self.piece.frame:
                memories.restart(self.piece, self.piece.facts.memories[memory], True)
            self.weights[memory, leaf] = self.made(self.piece.frame[memory]["weights"][leaf])
        return self.weights[memory, leaf]

    def made(self, value: Tensor) -> Weight:
        """In float32 at least: what a chunk sums, half precision would round at every step."""
        return Weight(
            value.to(torch.promote_types(value.dtype, torch.float32)), self.piece.ticks, self.piece.machine.low
        )

    def plain(self, x: Tensor) -> Tensor:
        return x.to(self.piece.machine.dtype)

    def _stream(self, record: Stream) -> None:
        if record.op == "weight":
            written = record.memory in self.loop.memories
            if written and not (record.mode == "seen" and record.memory in self.piece.facts.hold):
                weight = self.weight(record.memory, record.leaf)
                self.told[record.id] = weight, weight.now["w"]
                return
            self.apart(record.memory)
        elif record.op == "assign":
            self._assign(record)
            return
        elif record.op == "recall":
            raise NotAffine("attention is kept tick by tick")
        elif record.op in affine.ROWS and self._symbol(record):
            return
        self.waiting[record.id] = record

    def apart(self, memory: str) -> None:
        """A memory that is read here and not written must not follow one that is."""
        machine, known = self.piece.machine, self.piece.facts.memories[memory]
        if memory not in machine.shape.running and set(origins(known, machine.shape)) & set(self.loop.memories):
            raise NotAffine("what is read starts from what is written")

    def _symbol(self, record: Stream) -> bool:
        """Whether a record makes something of one weight, or of known rows, that is told and not computed."""
        weights = {id(self.told[str(a)][0]): self.told[str(a)][0] for a in record.args if a in self.told}
        outer = record.op == "outer" or any(a in self.products for a in record.args)
        if len(weights) > 1 or not (weights or outer):
            return False
        weight = next(iter(weights.values()), None)
        try:
            made = affine.ROWS[record.op](weight, record, [self._symbolic(a, record.op) for a in record.args])
        except NotAffine as reason:
            self.refused[record.id] = str(reason)
            return False
        if weight is None:
            self.products[record.id] = made
        else:
            self.told[record.id] = weight, made
        return True

    def _symbolic(self, name: Any, op: str) -> Any:
        if name in self.told:
            return self.told[name][1]
        if name in self.products:
            return self.products[name]
        return number(self.piece, self.value(name)) if op in ("add", "sub") else self.value(name)

    def _assign(self, record: Stream) -> None:
        if record.every != 1:
            raise NotAffine("it is not written at every tick")
        weight = self.weight(record.memory, record.leaf)
        source = record.args[0]
        if source in self.told and self.told[str(source)][0] is not weight:
            raise NotAffine("it becomes what another memory was")
        value = number(self.piece, self._symbolic(source, record.op))
        if isinstance(value, Answer):
            raise NotAffine("it becomes what it answered")
        weight.now["w"] = affine.written(weight, value)

    # Learning

    def _learn(self, record: Objective, part: str) -> None:
        if record.every.unit == "step" or record.every.count != 1 or record.when:
            raise NotAffine("it does not write every token")
        if buffers.needed(record):
            if part != "gather":
                self.found[record.id] = gathering.windowed(self, record)
        elif part != "write":
            self.found[record.id] = gathering.at_running_weight(self, record)
        if part != "gather":
            updates.write(self, record)

    # Values

    def value(self, name: Any) -> Any:
        """A stream over all ticks."""
        if not isinstance(name, str):
            return float(name)
        if name in self.piece.values:
            return self.piece.values[name]
        if name in self.products:
            return self.products[name].whole
        if name in self.told:
            if not self.settled:
                raise NotAffine("what it learns from depends on what it wrote a tick before")
            weight, told = self.told[name]
            return self.plain(weight.whole(told) if isinstance(told, Form) else weight.value(told).transpose(1, 2))
        if not self.settled and name in self.refused:
            raise NotAffine(self.refused[name])
        record = self.waiting[name]
        value = self._read(record) if self.settled and record.op == "matmul" and record.args[1] in self.told else None
        if value is None:
            for a in record.args:
                if isinstance(a, str):
                    self.piece.values[a] = self.value(a)
            value = self.piece.stream(record)
        self.piece.values[name] = value
        return value

    def _read(self, record: Stream) -> Tensor | None:
        """rows @ weight, for one row per tick."""
        weight, form = self.told[str(record.args[1])]
        if self.piece.facts.calls[record.id].ranks != (1, 2) or not isinstance(form, Form):
            return None
        return self.plain(weight.answer(weight.rows(self.value(record.args[0])), form).transpose(1, 2))

    def scale(self, record: Objective, index: int) -> Tensor | None:
        """The factor that a tick's gradient counts with."""
        if not record.weights:
            return None
        if isinstance(record.weights[index], str):
            self.value(record.weights[index])
        factor = weighing.number(self.piece, record.weights[index])
        if factor.dim() > LEAD:
            raise NotAffine("a factor is a vector")
        return factor

    # The end

    def _finish(self) -> None:
        frame = self.piece.frame
        news: dict[str, dict[str, Tensor]] = {}
        states: dict[str, Tensor] = {}
        for (memory, leaf), weight in self.weights.items():
            after = {name: self.plain(value) for name, value in weight.after().items()}
            news.setdefault(memory, {})[leaf] = after.pop("w")
            states |= after
        for memory, weights in news.items():
            frame[memory] = frame[memory] | {"weights": frame[memory]["weights"] | weights}
        for record, part in self.loop.nodes:
            if isinstance(record, Objective) and part != "gather":
                updates.keep(self, record, states)


class _Unsolved(Ticks):
    """The same, to find out whether it can be done."""

    def made(self, value: Tensor) -> Weight:
        return trial.Unsolved(value, self.piece.ticks)


def number(piece: Piece, value: Any) -> Any:
    """A number as a tensor; all else as it is."""
    return weighing.number(piece, value) if isinstance(value, float) else value
