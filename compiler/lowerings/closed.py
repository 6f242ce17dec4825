"""A loop's ticks all at once, where what is written is affine in the running weights (see `weight.py`).

The records of a tick are told once, as forms of the weights they write; then every read, and the weights at the end,
are a few products over all ticks. What a held state or gradient says is known; a gradient at the running weight may be
affine in what the weight answers, and so may what a retention erases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nldsl.compiler import affine, buffers, memories, weighing
from nldsl.compiler.affine import Form, NotAffine
from nldsl.compiler.dependences import origins
from nldsl.compiler.lowerings import gathering, reasons, trial, updates
from nldsl.compiler.lowerings.trial import Tried
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.masks import LEAD
from torch import Tensor

from nldsl.graph import Memory, Objective, Stream

if TYPE_CHECKING:
    from nldsl.compiler.distribute import Loop
    from nldsl.compiler.piece import Frame, Piece


MOST = 256  # ticks at once: some of the work grows with their square
MAPPED = 16  # where every tick has its own states, it is their room that counts


def tried(loop: Loop, machine: Any) -> Tried:
    """Whether and why a loop can run like this: it is tried out on tensors without numbers."""
    ticks = _Unsolved(trial.piece(loop, machine), loop)
    try:
        ticks.run()
    except NotAffine as reason:
        return Tried(str(reason))
    mapped = any(weight.mapped for weight in ticks.weights.values())
    return Tried("", {memory: reasons.of(ticks, memory) for memory in loop.memories}, MAPPED if mapped else MOST)


def run(piece: Piece, loop: Loop) -> bool:
    """Run a loop's ticks at once. False for one tick, which has nothing to gain."""
    if piece.ticks == 1:
        return False
    Ticks(piece, loop).run()
    return True


class Ticks:
    """Some ticks of a loop. weights: those it writes. told: streams that are forms of a weight. waiting:
    streams that are computed when they are asked for."""

    def __init__(self, piece: Piece, loop: Loop) -> None:
        self.piece, self.loop = piece, loop
        self.weights: dict[tuple[str, str], Weight] = {}  # by memory and leaf
        self.told: dict[str, tuple[Weight, Form]] = {}
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
            if name in self.waiting or name in self.told:
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
        return Weight(value, self.piece.ticks)

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
        elif record.op in affine.ROWS and any(a in self.told for a in record.args) and self._form(record):
            return
        self.waiting[record.id] = record

    def apart(self, memory: str) -> None:
        """A memory that is read here and not written must not follow one that is."""
        machine, known = self.piece.machine, self.piece.facts.memories[memory]
        if memory not in machine.shape.running and set(origins(known, machine.shape)) & set(self.loop.memories):
            raise NotAffine("what is read starts from what is written")

    def _form(self, record: Stream) -> bool:
        """A combination of forms of one weight, still a form."""
        if record.op in ("matmul", "outer"):
            return False
        weight = next(self.told[str(a)][0] for a in record.args if a in self.told)
        if any(a in self.told and self.told[str(a)][0] is not weight for a in record.args):
            return False
        try:
            args = [self.told[str(a)][1] if a in self.told else self.value(a) for a in record.args]
            if record.op in ("add", "sub"):
                args = [affine.written(weight, number(self.piece, a)) for a in args]
            form = affine.ROWS[record.op](weight, record, args)
        except NotAffine:
            return False
        self.told[record.id] = weight, form
        return True

    def _assign(self, record: Stream) -> None:
        if record.every != 1:
            raise NotAffine("it is not written at every tick")
        weight = self.weight(record.memory, record.leaf)
        source = record.args[0]
        if source in self.told:
            other, form = self.told[str(source)]
            if other is not weight:
                raise NotAffine("it becomes what another memory was")
        else:
            form = affine.written(weight, number(self.piece, self.value(source)))
        weight.now["w"] = form

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
        if not self.settled:
            raise NotAffine("what it learns from depends on what it wrote a tick before")
        if name in self.told:
            weight, form = self.told[name]
            return weight.whole(form)
        record = self.waiting[name]
        value = self._read(record) if record.op == "matmul" and record.args[1] in self.told else None
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
        if self.piece.facts.calls[record.id].ranks != (1, 2) or any(w.x is None for w in weight.writes):
            return None
        return weight.answer(self.rows(self.value(record.args[0]), weight), form).transpose(1, 2)

    def rows(self, x: Tensor, weight: Weight) -> Tensor:
        """[batch or 1, ticks or 1, heads or 1, n] -> [batch, heads, ticks, n]."""
        batch, heads, ticks = weight.lead
        return x.expand(batch, ticks, heads, -1).transpose(1, 2)

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
            after = weight.after()
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
