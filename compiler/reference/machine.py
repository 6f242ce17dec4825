"""One tick of one body, for one sequence: the meaning of rules 2 to 16, a record at a time.

A frame holds what lasts from tick to tick: id of a memory, learn or stream -> what it keeps. Frames are values:
a tick makes new ones and never changes the old. Every tensor has one leading axis: the heads, or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nldsl.clocks import held
from nldsl.graph import Body, Memory, Objective, Stream
from nldsl.primitives import PRIMITIVES
from nldsl.torch_forms import Call

Frame = dict[str, Any]
Weights = dict[tuple[str, str], Tensor]


@dataclass(frozen=True)
class Facts:
    """What is read off a body once: its memories, who is held by whom, which memories run (are written in it)."""

    memories: Mapping[str, Memory]
    learns: tuple[Objective, ...]
    running: frozenset[str]
    hold: Mapping[str, int]
    gatherers: tuple[Stream, ...]
    calls: Mapping[str, Call]

    @staticmethod
    def of(body: Body, dtype: torch.dtype) -> Facts:
        learns = tuple(r for r in body.records if isinstance(r, Objective))
        taught = {m for o in learns if o.every.unit != "step" for m in o.memories}
        written = {s.memory for s in body.records if isinstance(s, Stream) and s.op == "assign"}
        memories = {r.id: r for r in body.records if isinstance(r, Memory)}
        states = {m.id for m in memories.values() if m.form == "state"}
        gatherers = tuple(r for r in body.records if isinstance(r, Stream) and r.op.startswith("window_"))
        return Facts(
            memories, learns, frozenset(taught | written | states), held(body.records), gatherers, calls_of(body, dtype)
        )


@dataclass
class Tick:
    """One tick under way. path and lane say whose rule this body is: where its memories' starts are found.

    recorded: in the replay of a segment, the values of `data(…)` as they were. shift: in a replay, what to add to the
    weights of which heads when a memory restarts at this tick. notes: what the loss learns keep of this tick.
    restarted: the heads of each memory that started again.
    """

    machine: Any
    body: Body
    facts: Facts
    frame: Frame
    inputs: Mapping[str, Tensor]
    number: int
    path: str = ""
    lane: tuple[int, int] = (0, 0)
    recorded: Mapping[str, Tensor] | None = None
    shift: Mapping[str, tuple[Mapping[str, Tensor], list[bool]]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    restarted: dict[str, list[bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calls = self.machine.facts(self.body).calls

    def run(self) -> dict[str, Any]:
        """Run every record known at this tick, from top to bottom."""
        self.values.update(self.inputs)
        for record in self.body.records:
            if isinstance(record, Stream):
                if not record.lag:
                    self.values[record.id] = self.stream(record, self.values)
            elif isinstance(record, Memory):
                self.open(record)
            else:
                self.machine.learner.learn(self, record)
        return self.values

    def late(self, values: dict[str, Any]) -> dict[str, Any]:
        """Run what was waiting for the next tick; `values` are those of the tick, with `next` filled in."""
        for record in self.body.records:
            if isinstance(record, Stream) and record.lag and record.op != "next":
                values[record.id] = self.stream(record, values)
        return values

    # Memories

    def open(self, memory: Memory) -> None:
        """The memory's tick begins: restart the heads whose reset says so, take the states its learns hold."""
        if memory.id not in self.facts.running and memory.form != "attention":
            return
        lanes = [memory.id not in self.frame or self._due(memory)] * max(1, memory.heads)
        if memory.reset_when:
            condition = self.values[memory.reset_when].reshape(-1).tolist()
            lanes = [on or bool(condition[min(h, len(condition) - 1)]) for h, on in enumerate(lanes)]
        if any(lanes):
            self.restart(memory, lanes)
        for learn in self.facts.learns:
            if learn.hold and memory.id in learn.memories:
                whole = self.number % learn.hold_length == 0
                self._hold(memory, learn, [whole or on for on in lanes])

    def _due(self, memory: Memory) -> bool:
        return bool(self.number and memory.reset_every and self.number % memory.reset_every == 0)

    def _hold(self, memory: Memory, learn: Objective, lanes: list[bool]) -> None:
        """The heads' weights as they stand now are what the learn holds."""
        kept = self.frame.get(learn.id, {})
        anchor = dict(kept.get("anchor", {}))
        for name, now in self.frame[memory.id]["weights"].items():
            anchor[memory.id, name] = choose(lanes, now, anchor.get((memory.id, name), now))
        self.frame[learn.id] = kept | {"anchor": anchor}

    def restart(self, memory: Memory, lanes: list[bool]) -> None:
        """These heads of the memory, their optimizers and their windows start again."""
        self.restarted[memory.id] = lanes
        if memory.form == "attention":
            pairs = self.frame.get(memory.id, {"pairs": ((),) * len(lanes)})["pairs"]
            self.frame[memory.id] = {"pairs": tuple(() if on else p for on, p in zip(lanes, pairs, strict=True))}
        else:
            weights, starts = {}, {}
            for leaf in memory.leaves:
                fresh = self.start(memory, leaf.name)
                was = self.frame.get(memory.id, {"start": {}})["start"].get(leaf.name, fresh)
                starts[leaf.name] = choose(lanes, fresh, was)
                deltas, shifted = self.shift.get(memory.id, ({}, []))
                if leaf.name in deltas:
                    fresh = choose(shifted, fresh + deltas[leaf.name], fresh)
                old = self.frame.get(memory.id, {"weights": {}})["weights"].get(leaf.name, fresh)
                weights[leaf.name] = choose(lanes, fresh, old)
            begun = self.frame.get(memory.id, {"begun": [self.number] * len(lanes)})["begun"]
            begun = [self.number if on else b for on, b in zip(lanes, begun, strict=True)]
            self.frame[memory.id] = {"weights": weights, "start": starts, "begun": begun}
        for stream in self.facts.gatherers:
            if stream.attr("serves") == memory.id and stream.id in self.frame:
                kept = self.frame[stream.id]
                rows = [None if on else row for on, row in zip(lanes, kept["rows"], strict=True)]
                moved = [on and not stream.attr("aligned") for on in lanes]
                begun = [self.number if on else b for on, b in zip(moved, kept["begun"], strict=True)]
                self.frame[stream.id] = {"rows": rows, "begun": begun}
        for learn in self.facts.learns:
            if memory.id in learn.memories:
                self.frame[learn.id] = self.machine.learner.forget(
                    self.frame.get(learn.id, {}), memory.id, lanes, self.number
                )

    def start(self, memory: Memory, leaf: str) -> Tensor:
        """Where a leaf starts, [heads or 1, *shape]."""
        index = [n.name for n in memory.leaves].index(leaf)
        if memory.start != "body":
            return self.machine.start_of(memory, memory.leaves[index], self.path, self.lane)  # type: ignore[no-any-return]
        body = memory.starts[index]
        inputs = {p.id: self.machine.start_of(memory, memory.leaves[index], self.path, self.lane) for p in body.inputs}
        inner = Tick(self.machine, body, self.facts, self.frame, inputs, self.number, self.path, self.lane)
        return inner.run()[body.results[0]].expand(max(1, memory.heads), *memory.leaves[index].shape)  # type: ignore[no-any-return]

    def weight(self, memory: str, leaf: str, mode: str) -> Tensor:
        """A leaf as a reader in this mode sees it."""
        record = self.facts.memories[memory]
        if memory not in self.facts.running:
            return self.start(record, leaf)
        if memory not in self.frame:
            self.restart(record, [True] * max(1, record.heads))
        if mode == "seen" and memory in self.facts.hold:
            for learn in self.facts.learns:
                if memory in learn.memories and learn.hold == "state":
                    return self.frame[learn.id]["anchor"][memory, leaf]  # type: ignore[no-any-return]
        return self.frame[memory]["weights"][leaf]  # type: ignore[no-any-return]

    # Streams

    def stream(self, stream: Stream, values: Mapping[str, Any]) -> Any:
        args: list[Any] = [values[a] if isinstance(a, str) else float(a) for a in stream.args]
        if stream.op in KEEPING:
            return self.keep(stream, args)
        if stream.op == "data" and self.recorded is not None:
            return self.recorded[stream.id]
        if any(a is None for a in args):
            return None
        return apply(stream, args, self.calls[stream.id])

    def keep(self, stream: Stream, args: list[Any]) -> Any:
        """The streams that read or write what is kept from tick to tick."""
        match stream.op:
            case "weight":
                return self.weight(stream.memory, stream.leaf, stream.mode)
            case "recall":
                return self.recall(stream, args[0])
            case "assign":
                return self.assign(stream, args[0])
            case "tick":
                return torch.full((1,), self.number, dtype=self.machine.dtype)
            case "causal_conv":
                return self.convolve(stream, args[0], args[1])
        return self.gather(stream, *args)

    def assign(self, stream: Stream, value: Any) -> None:
        """`M <- value` for the heads whose window ends at this tick."""
        kept = self.frame[stream.memory]
        due = [(self.number + 1 - begun) % stream.every == 0 for begun in kept["begun"]]
        if not any(due):
            return
        old = kept["weights"][stream.leaf]
        new = torch.as_tensor(value, dtype=self.machine.dtype)
        if new.dim():
            new = new.reshape(new.shape[0], *(1,) * (old.dim() - new.dim()), *new.shape[1:])
        written = choose(due, new.expand(old.shape), old)
        self.frame[stream.memory] = kept | {"weights": kept["weights"] | {stream.leaf: written}}

    def convolve(self, stream: Stream, x: Tensor, kernel: Tensor) -> Tensor:
        width = kernel.shape[-2]
        past = self.frame.get(stream.id, {"past": (torch.zeros_like(x),) * (width - 1)})["past"]
        row = (*past, x)
        self.frame[stream.id] = {"past": row[1:]}
        return torch.stack([kernel[:, j] * row[j] for j in range(width)]).sum(0)

    def gather(self, stream: Stream, x: Any, when: Tensor | None = None) -> Tensor | None:
        """Sum, mean or last over a window, for each head of the memory it serves, which may have restarted by itself.
        There is a value at a window's last tick only."""
        if x is None:
            return None
        served = self.facts.memories.get(stream.attr("serves", ""))
        count = max(1, served.heads if served else 1, x.shape[0])
        kept = self.frame.get(stream.id, {"rows": [None] * count, "begun": [0] * count})
        rows, begun, out = list(kept["rows"]), list(kept["begun"]), []
        for h in range(count):
            now = x[min(h, x.shape[0] - 1)]
            counts = when is None or bool(when[min(h, when.shape[0] - 1)])
            if counts:
                total, number = rows[h][:2] if rows[h] else (torch.zeros_like(now), 0)
                rows[h] = (total + now, number + 1, now)
            total, number, last = rows[h] or (torch.zeros_like(now), 1, torch.zeros_like(now))
            out.append({"window_sum": total, "window_mean": total / number, "window_last": last}[stream.op])
        due = [(self.number + 1 - b) % stream.every == 0 for b in begun]
        self.frame[stream.id] = {"rows": [None if on else r for on, r in zip(due, rows, strict=True)], "begun": begun}
        whole = x.shape[0] == 1 and all(b == begun[0] for b in begun) and (when is None or when.shape[0] == 1)
        return (torch.stack(out[:1] if whole else out)) if any(due) else None

    def recall(self, stream: Stream, query: Tensor) -> Tensor:
        """Attention: the kept values, weighed by softmax(q.k / sqrt(d)); zeros where nothing is kept."""
        memory = self.facts.memories[stream.memory]
        kept = self.frame[memory.id]["pairs"]
        answers = []
        for lane, pairs in enumerate(kept):
            q = query[min(lane, query.shape[0] - 1)]
            keys, values = [k for k, _ in pairs], [v for _, v in pairs]
            if memory.persistent:
                own = [self.weight_of_lane(memory, n, lane) for n in ("keys", "values")]
                keys, values = [*own[0].unbind(0), *keys], [*own[1].unbind(0), *values]
            if not keys:
                answers.append(torch.zeros(memory.value_size, dtype=q.dtype))
                continue
            scores = torch.stack(keys) @ q / memory.key_size**0.5
            answers.append(torch.softmax(scores, 0) @ torch.stack(values))
        return torch.stack(answers)

    def weight_of_lane(self, memory: Memory, leaf: str, lane: int) -> Tensor:
        return self.start(memory, leaf)[lane]

    def inner(
        self, body: Body, frame: Frame, inputs: Mapping[str, Tensor], number: int, path: str, lane: tuple[int, int]
    ) -> Tick:
        return Tick(self.machine, body, self.machine.facts(body), frame, inputs, number, path, lane)


def choose(lanes: list[bool], new: Tensor, old: Tensor) -> Tensor:
    """Head by head: the new where the lane is on, the old elsewhere. (No `where`: what is not chosen must not be able
    to spoil a gradient.)"""
    if all(lanes):
        return new
    return torch.stack([new[h] if on else old[h] for h, on in enumerate(lanes)]) if any(lanes) else old


def calls_of(body: Body, dtype: torch.dtype) -> dict[str, Call]:
    """For each primitive of a body, the ranks and numbers its torch form asks for."""
    ranks = {p.id: len(p.shape) for p in body.inputs}
    calls = {}
    for record in body.records:
        if isinstance(record, Stream):
            ranks[record.id] = len(record.shape)
            of_args = tuple(ranks[a] if isinstance(a, str) else 0 for a in record.args)
            attrs = {n: tuple(map(int, v)) if isinstance(v, tuple) else v for n, v in record.attrs}
            calls[record.id] = Call(of_args, attrs, tuple(map(int, record.shape)), dtype, None)
    return calls


KEEPING = {"weight", "recall", "assign", "tick", "causal_conv", "window_sum", "window_mean", "window_last"}
WHOLE = {"exp", "log", "sigmoid", "where", "sqrt", "tanh", "sin", "cos"}  # torch takes no bare number here
INDEXED = ("take", "cross_entropy", "one_hot")


def apply(stream: Stream, args: list[Any], call: Call) -> Tensor:
    """A primitive on tensors with one leading axis."""
    form = PRIMITIVES[stream.op].torch
    assert form is not None
    if stream.op in WHOLE:
        args = [torch.tensor([a], dtype=call.dtype) if type(a) is float else a for a in args]
    elif stream.dtype == "real" and stream.op not in INDEXED:
        for i, a in enumerate(args):
            if type(a) is not float and a.dtype is torch.int64:
                args[i] = a.to(call.dtype)
    return form(torch, call, *args)  # type: ignore[no-any-return]
