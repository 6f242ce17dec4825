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
from nldsl.primitives import PRIMITIVES, Call

Frame = dict[str, Any]
Weights = dict[tuple[str, str], Tensor]


@dataclass(frozen=True)
class Facts:
    """What is read off a body once: its memories, who is held by whom, which memories run (are written in it)."""

    memories: Mapping[str, Memory]
    learns: tuple[Objective, ...]
    running: frozenset[str]
    hold: Mapping[str, int]

    @staticmethod
    def of(body: Body) -> Facts:
        learns = tuple(r for r in body.records if isinstance(r, Objective))
        taught = {m for o in learns if o.every.unit != "step" for m in o.memories}
        written = {s.memory for s in body.records if isinstance(s, Stream) and s.op == "assign"}
        memories = {r.id: r for r in body.records if isinstance(r, Memory)}
        states = {m.id for m in memories.values() if m.form == "state"}
        return Facts(memories, learns, frozenset(taught | written | states), held(body.records))


@dataclass
class Tick:
    """One tick under way. path and lane say whose rule this body is: where its memories' starts are found.

    recorded: in the replay of a segment, the values of `data(…)` as they were. shift: in a replay, what to add to a
    memory's weights when it restarts at this tick. factors: filled with what the loss learns note at this tick.
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
    shift: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    restarted: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Run every record known at this tick, from top to bottom."""
        self.values.update(self.inputs)
        for record in self.body.records:
            match record:
                case Memory():
                    self.open(record)
                case Stream(lag=0):
                    self.values[record.id] = self.stream(record, self.values)
                case Objective():
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
        """The memory's tick begins: restart it if its reset says so, take the states its learns hold."""
        if memory.id not in self.facts.running and memory.form != "attention":
            return
        every, when = memory.reset_every, memory.reset_when
        restart = memory.id not in self.frame
        if self.number and every and self.number % every == 0:
            restart = True
        if when and bool(self.values[when].any()):
            restart = True
        if restart:
            self.restart(memory)
        for learn in self.facts.learns:
            if learn.hold and memory.id in learn.memories and (restart or self.number % learn.hold_length == 0):
                kept = dict(self.frame.get(learn.id, {}))
                anchor = dict(kept.get("anchor", {}))
                anchor.update({(memory.id, n): w for n, w in self.frame[memory.id]["weights"].items()})
                self.frame[learn.id] = kept | {"anchor": anchor}

    def restart(self, memory: Memory) -> None:
        """The memory, its optimizers and its windows start again."""
        self.restarted.add(memory.id)
        if memory.form == "attention":
            self.frame[memory.id] = {"pairs": tuple(() for _ in range(max(1, memory.heads)))}
        else:
            weights = {leaf.name: self.start(memory, leaf.name) for leaf in memory.leaves}
            for name, delta in self.shift.get(memory.id, {}).items():
                weights[name] = weights[name] + delta
            self.frame[memory.id] = {"weights": weights}
        for learn in self.facts.learns:
            if memory.id in learn.memories and learn.id in self.frame:
                kept = {n: v for n, v in self.frame[learn.id].items() if n in ("anchor", "sum", "rules", "counted")}
                for part in ("sum", "rules", "counted"):
                    kept[part] = {k: v for k, v in kept.get(part, {}).items() if memory.id not in k}
                self.frame[learn.id] = kept

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
            self.restart(record)
        if mode == "seen" and memory in self.facts.hold or mode == "anchor":
            for learn in self.facts.learns:
                if memory in learn.memories and (learn.hold == "state" or (mode == "anchor" and learn.hold)):
                    return self.frame[learn.id]["anchor"][memory, leaf]  # type: ignore[no-any-return]
        return self.frame[memory]["weights"][leaf]  # type: ignore[no-any-return]

    # Streams

    def stream(self, stream: Stream, values: Mapping[str, Any]) -> Any:
        args = [values[a] if isinstance(a, str) else float(a) for a in stream.args]
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
                return self.convolve(stream, *args)
            case "window_sum" | "window_mean" | "window_last":
                return self.gather(stream, *args)
            case "data" if self.recorded is not None:
                return self.recorded[stream.id]
        if any(a is None for a in args):
            return None
        return apply(self.machine.dtype, stream, args, self.ranks(stream))

    def ranks(self, stream: Stream) -> tuple[int, ...]:
        return tuple(self.machine.rank(self.body, a) if isinstance(a, str) else 0 for a in stream.args)

    def assign(self, stream: Stream, value: Any) -> None:
        if (self.number + 1) % stream.every:
            return
        weights = self.frame[stream.memory]["weights"]
        old = weights[stream.leaf]
        new = torch.as_tensor(value, dtype=self.machine.dtype)
        if new.dim():
            new = new.reshape(new.shape[0], *(1,) * (old.dim() - new.dim()), *new.shape[1:])
        self.frame[stream.memory] = {"weights": weights | {stream.leaf: new.expand(old.shape)}}

    def convolve(self, stream: Stream, x: Tensor, kernel: Tensor) -> Tensor:
        width = kernel.shape[-2]
        past = self.frame.get(stream.id, {"past": (torch.zeros_like(x),) * (width - 1)})["past"]
        row = (*past, x)
        self.frame[stream.id] = {"past": row[1:]}
        return sum(kernel[:, j] * row[j] for j in range(width))  # type: ignore[return-value]

    def gather(self, stream: Stream, x: Any, when: Tensor | None = None) -> Tensor | None:
        """Sum, mean or last over a window; the value is there at the window's last tick only."""
        if x is None:
            return None
        kept = self.frame.get(stream.id, {"sum": torch.zeros_like(x), "count": torch.zeros(1), "last": torch.zeros_like(x)})
        counts = torch.ones(1, dtype=torch.bool) if when is None else when
        shaped = counts.reshape(-1, *(1,) * (x.dim() - 1))
        total = torch.where(shaped, kept["sum"] + x, kept["sum"])
        last = torch.where(shaped, x, kept["last"])
        count = kept["count"] + counts
        if (self.number + 1) % stream.every:
            self.frame[stream.id] = {"sum": total, "count": count, "last": last}
            return None
        self.frame.pop(stream.id, None)
        mean = total / count.clamp(min=1).reshape(-1, *(1,) * (x.dim() - 1)).to(total.dtype)
        return {"window_sum": total, "window_mean": mean, "window_last": last}[stream.op]

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

    def inner(self, body: Body, frame: Frame, inputs: Mapping[str, Tensor], number: int, path: str, lane: tuple[int, int]) -> Tick:  # fmt: skip
        return Tick(self.machine, body, self.machine.facts(body), frame, inputs, number, path, lane)


def apply(dtype: torch.dtype, stream: Stream, args: list[Any], ranks: tuple[int, ...]) -> Tensor:
    """A primitive on tensors with one leading axis."""
    row = PRIMITIVES[stream.op]
    assert row.torch is not None
    if stream.dtype == "real" and stream.op not in ("take", "cross_entropy", "one_hot"):
        args = [a.to(dtype) if isinstance(a, Tensor) and not a.is_floating_point() and a.dtype != torch.bool else a
                for a in args]  # fmt: skip
    attrs = {n: tuple(map(int, v)) if isinstance(v, tuple) else v for n, v in stream.attrs}
    call = Call(ranks, attrs, tuple(map(int, stream.shape)), dtype, None)
    if stream.op in ("exp", "log", "sigmoid", "where") or all(isinstance(a, float) for a in args):
        args = [a if isinstance(a, Tensor) else torch.tensor([a], dtype=dtype) for a in args]
    return row.torch(torch, call, *args)  # type: ignore[no-any-return]

