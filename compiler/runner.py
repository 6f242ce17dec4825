"""Runs a planned program over a batch of sequences that stand at the same tick: segment by segment, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler import attention, chunks, closing, live, segments, stages
from nldsl.compiler.dependences import Node, Shape, nodes_of
from nldsl.compiler.distribute import Loop, Stage
from nldsl.compiler.losses import Loss
from nldsl.compiler.nested import detached
from nldsl.compiler.piece import Facts, Frame, Piece, clock_of, written_out
from nldsl.compiler.starts import draw
from nldsl.compiler.steps import Steps
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from nldsl.graph import Body, Leaf, LevelGraph, Memory, Objective

Inputs = Mapping[str, Tensor]


@dataclass
class Ran:
    """What a run gives: the outputs [batch, ticks, heads or 1, *shape], the losses that became known [batch, ticks] (at
    place t when tick t was read), from which place on they are known, the state after, and the gradients of local
    objectives that learn once per step."""

    outs: list[Tensor]
    losses: Tensor
    known: int
    state: dict[str, Any]
    local: dict[str, dict[str, Tensor]]


class Runner:
    """A program's plan at work, in one dtype on one device. low: what autocast would have products and attention
    computed in (see `halves.py`). All else is in `dtype`: states, gates, rules, and every sum of many ticks.
    budget: the bytes that the chunks of all loops may keep for the backward pass, 0 for any number."""

    def __init__(
        self, graph: LevelGraph, plan: tuple[Stage, ...], dtype: torch.dtype, seed: int, budget: int = 0
    ) -> None:
        self.graph, self.plan, self.dtype, self.seed = graph, plan, dtype, seed
        self.device = torch.device("cpu")
        self.low: torch.dtype | None = None
        self._budget = budget
        self.bodies = graph.bodies
        self.segment = segments.segment_length(graph)
        self.loss = Loss(self, graph)
        self._facts: dict[int, Facts] = {}
        self._starts: dict[int, frozenset[str]] = {}
        self._constants: dict[str, Tensor] = {}
        self._gives: dict[int, tuple[str, ...]] = {}
        self._owned: dict[int, tuple[str, ...]] = {}
        self._kept: list[frozenset[str]] = []
        self.told: dict[int, Any] = {}  # rules' bodies as signatures have them
        self.shape = Shape.of(graph.tick, graph.bodies)
        self.steps = Steps(patience=0 if budget else 8)
        loops = sum(isinstance(stage, Loop) for stage in plan)
        self.budget = budget // loops if loops else 0  # of each
        self.watch: Callable[[str], None] | None = None  # told which record of the tick is at work

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy begins with nothing looked up: what is kept here is kept by the identity of records."""
        return Runner, (self.graph, self.plan, self.dtype, self.seed, self._budget)

    def _wanted(self) -> frozenset[str]:
        """The values that are asked for after a tick."""
        names = {o.stream for o in self.graph.outs} | {self.graph.loss} | self.loss.waited_for
        names |= {s.id for s in self.graph.streams.values() if s.op == "data" and not s.lag}
        for learn in self.graph.objectives:
            names |= {f"{what} {learn.id}" for what in ("active", "weights", "rates")}
            names |= {f"gradient {learn.id}"} if learn.every.unit == "step" else set()
        return frozenset(names)

    def _lasting(self) -> list[frozenset[str]]:
        """For each stage, the values that are still asked for after it: others would be kept for the backward pass."""
        if not self._kept:
            asked = self._wanted() | {p.id for p in self.graph.tick.inputs}
            for stage in reversed(self.plan):
                self._kept.insert(0, asked)
                asked |= self.reads(stage.nodes)
        return self._kept

    def gives(self, nodes: Sequence[Node]) -> tuple[str, ...]:
        """The values of some records that are asked for by others."""
        found = self._gives.get(id(nodes))
        if found is None:
            inside = {(r.id, part) for r, part in nodes}
            others = [n for n in nodes_of(self.graph.tick) if (n[0].id, n[1]) not in inside]
            asked = stages.used(others, self.shape.taken) | self._wanted()
            found = self._gives[id(nodes)] = tuple(sorted(stages.given(nodes) & asked))
        return found

    def reads(self, nodes: Sequence[Node]) -> frozenset[str]:
        """The values that some records ask for."""
        return stages.used(nodes, self.shape.taken)

    def parameters_of(self, memories: Sequence[str], parameters: Mapping[str, Tensor]) -> tuple[str, ...]:
        """The names of these memories' learned starts, and of what is inside their rules."""
        found = self._owned.get(id(memories))
        if found is None:
            heads = tuple(f"{m}." for m in memories)
            found = self._owned[id(memories)] = tuple(n for n in parameters if n.startswith(heads))
        return found

    # What a piece looks up

    def facts(self, body: Body) -> Facts:
        found = self._facts.get(id(body))
        if found is None:
            found = self._facts[id(body)] = Facts.of(body, self.dtype, self.device)
        return found

    def asked_for_start(self, body: Body) -> frozenset[str]:
        """The memories of a body whose start a retention asks for."""
        found = self._starts.get(id(body))
        if found is None:
            found = self._starts[id(body)] = frozenset(
                m
                for r in body.records
                if isinstance(r, Objective) and r.retention
                for m, _, b in r.retention.bodies
                if any(p.id == "start" for p in self.bodies[b].inputs)
            )
        return found

    def start_value(self, parameters: Mapping[str, Tensor], name: str, memory: Memory, leaf: Leaf) -> Tensor:
        """A leaf's learned start, or one that was drawn once, [(heads,) *shape]."""
        if name in parameters:
            return parameters[name]
        if leaf.init[0] == "constant":
            shape = tuple(map(int, (memory.heads, *leaf.shape) if memory.heads else leaf.shape))
            return torch.full(shape, float(leaf.init[1]), dtype=self.dtype, device=self.device)
        if name not in self._constants:
            with disable_proxy_modes_tracing():  # a number of the program, even if a traced body is the first to ask
                self._constants[name] = draw(name, leaf, memory.heads, self.seed, self.dtype, self.device)
        return self._constants[name]

    def moved(self, device: torch.device, dtype: torch.dtype) -> None:
        if device != self.device or dtype != self.dtype:
            self.device, self.dtype = device, dtype
            self._facts.clear()
            self._constants.clear()
            self.steps.bodies.clear()

    # Running

    def piece(
        self,
        frame: Frame,
        values: dict[str, Any],
        parameters: Mapping[str, Tensor],
        batch: int,
        ticks: int,
        number: int,
    ) -> Piece:
        clock = clock_of(number, ticks, self.device)
        return Piece(self, self.graph.tick, frame, values, parameters, batch, ticks, number, clock)

    def advance(self, piece: Piece) -> None:
        for stage, lasting in zip(self.plan, self._lasting(), strict=True):
            stages.run(piece, (stage,), inside=False)
            for name in [n for n in piece.values if n not in lasting]:
                del piece.values[name]
        for memory in piece.facts.memories.values():
            if memory.form == "attention" and memory.id in piece.frame:
                piece.frame[memory.id] = attention.trimmed(piece, memory)

    def run(
        self, inputs: Inputs, state: dict[str, Any], number: int, parameters: Mapping[str, Tensor], truncate: int = 0
    ) -> Ran:
        """inputs: [batch, ticks, heads or 1, *shape] by name. truncate: carried states are data every so many ticks."""
        kind = self.device.type
        if kind == "meta":  # shapes alone: autocast knows no such device
            return self._run(inputs, state, number, parameters, truncate)
        casts = self.dtype is torch.float32 and torch.is_autocast_enabled(kind)
        self.low = torch.get_autocast_dtype(kind) if casts else None
        with torch.autocast(kind, enabled=False):
            return self._run(inputs, state, number, parameters, truncate)

    def _run(
        self, inputs: Inputs, state: dict[str, Any], number: int, parameters: Mapping[str, Tensor], truncate: int
    ) -> Ran:
        batch, ticks = next(iter(inputs.values())).shape[:2]
        frame: Frame = state.get("frame", {})
        open_segments: list[segments.Segment] = state.get("segments", [])
        names = [o.stream for o in self.graph.outs]
        kept: set[str] = set(names) | {self.graph.loss} | self.loss.kept
        parts: dict[str, list[tuple[Any, int]]] = {}
        local: dict[str, dict[str, Tensor]] = {}
        learns, alive = segments.loss_learns(self.graph), None
        begin = 0
        while begin < ticks:
            if truncate and number and number % truncate == 0:
                frame, open_segments = detached(frame), detached(open_segments)
            end = min([ticks, *(begin + n - number % n for n in (self.segment, truncate) if n)])
            now = {n: x[:, begin:end] for n, x in inputs.items()}
            if self.segment and number % self.segment == 0:
                if self.loss.ahead and number:
                    first = {n: x[:, :1] for n, x in now.items()}
                    frame = closing.close(self, frame, open_segments, number, first, parameters, alive)
                open_segments = segments.opened(open_segments, frame, self.graph)
            piece = self.piece(dict(frame), dict(now), parameters, batch, end - begin, number)
            whole = self.segment and number % self.segment == 0 and end - begin == self.segment
            alive = live.begun(self, piece, learns) if whole else None
            self.advance(piece)
            frame = piece.frame
            for name in kept:
                if name in piece.values:
                    parts.setdefault(name, []).append((piece.values[name], end - begin))
            self._local(piece, local)
            begin, number = end, number + (end - begin)
            if self.segment:
                open_segments = [*open_segments[:-1], segments.noted(open_segments[-1], piece, now)]
                if not self.loss.ahead and number % self.segment == 0:
                    frame = closing.close(self, frame, open_segments, number, None, parameters, alive)
        values = {n: written_out(chunks.joined(p), batch, ticks) for n, p in parts.items()}
        losses, known = self.loss.known(values, inputs, state.get("waiting"), batch, ticks)
        after: dict[str, Any] = {"frame": frame}
        if self.segment:
            after["segments"] = open_segments
        if self.loss.ahead:
            after["waiting"] = {n: values[n][:, -1:] for n in sorted(self.loss.kept)}
        return Ran([values[n] for n in names], losses, known, after, local)

    def _local(self, piece: Piece, total: dict[str, dict[str, Tensor]]) -> None:
        """The summed gradients of local objectives that learn on the step clock."""
        for learn in self.graph.objectives:
            if learn.kind == "local" and learn.every.unit == "step":
                sums = total.setdefault(learn.id, {})
                for name, g in piece.values[f"gradient {learn.id}"]["whole"].items():
                    sums[name] = sums[name] + g if name in sums else g
