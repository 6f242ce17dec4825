"""The reference interpreter: what a level graph means. One token at a time, one sequence at a time, no cleverness.

m = Interpreter(graph)
outs, state = m.run(ids)           every tick's outputs, and a state to go on from
loss, state = m.step(ids)          a training step: the step-clock learns write `m.parameters`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from nldsl.compiler.reference import learner, outer, segments
from nldsl.compiler.reference.machine import Facts, Tick
from nldsl.compiler.starts import draw, draw_all
from torch import Tensor

from nldsl.graph import Body, Leaf, LevelGraph, Memory, Port
from nldsl.parameters import learned_parameters

Inputs = Tensor | Mapping[str, Tensor]
State = list[dict[str, Any]]


class Interpreter:
    """Runs a checked level graph in `dtype`, its parameters drawn with `seed`.

    parameters: the learned starts by name, [*shape] or [heads, *shape], each requiring grad.
    """

    def __init__(self, graph: LevelGraph, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        self.graph, self.dtype, self.seed = graph, dtype, seed
        self._parameters = learned_parameters(graph)
        self.parameters = draw_all(self._parameters.values(), seed, dtype)
        self.learner = learner
        self.optimizer_state: dict[str, Any] = {}
        self.steps = 0
        self._facts: dict[int, Facts] = {}
        self._constants: dict[str, Tensor] = {}
        self.data_streams = [s for s in graph.streams.values() if s.op == "data" and not s.lag]
        self.ahead = graph.loss in graph.streams and graph.streams[graph.loss].lag == 1
        late = {a for s in graph.streams.values() if s.lag for a in s.args if isinstance(a, str)} | {graph.loss}
        self._waited_for = late
        self._segment = segments.segment_length(graph)

    # Running

    def initial_state(self, batch: int) -> State:
        """The state of `batch` sequences before their first tick."""
        return [{"tick": 0, "frame": {}} for _ in range(batch)]

    def run(
        self,
        inputs: Inputs,
        state: State | None = None,
        truncate: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[list[Tensor], State]:
        """All outputs, each [batch, ticks, (heads,) *shape], and the state after. inputs: [batch, ticks, …], or one
        such tensor by name. The state handed in is data (rule 16). truncate: carried states are data every so many
        ticks."""
        outs, _, after = self._rows(inputs, state, truncate, progress)
        return [torch.stack([torch.stack(row) for row in out]) for out in outs], after

    def losses(self, inputs: Inputs, state: State | None = None, truncate: int = 0) -> tuple[list[list[Tensor]], State]:
        """Per sequence, the loss of every tick whose target is known by the end, in nats, and the state after."""
        _, losses, after = self._rows(inputs, state, truncate, None)
        return losses, after

    def step(self, inputs: Inputs, state: State | None = None) -> tuple[Tensor, State]:
        """One training step: (mean loss, state). Writes `parameters` in place."""
        return outer.step(self, inputs, state)

    def weights(self, state: State, row: int = 0) -> dict[str, Tensor]:
        """The running values of one sequence by name: memories that are written on a token clock, and states."""
        tick = Tick(
            self, self.graph.tick, self.facts(self.graph.tick), dict(state[row]["frame"]), {}, state[row]["tick"]
        )
        found = {}
        for memory in tick.facts.memories.values():
            if memory.id in tick.facts.running and memory.form != "attention":
                for leaf in memory.leaves:
                    value = tick.weight(memory.id, leaf.name, "running")
                    found[f"{memory.id}.{leaf.name}"] = value if memory.heads else value[0]
        return found

    def _rows(
        self, inputs: Inputs, state: State | None, truncate: int, progress: Callable[[int], None] | None
    ) -> tuple[list[list[list[Tensor]]], list[list[Tensor]], State]:
        ports = self._named(inputs)
        batch, ticks = next(iter(ports.values())).shape[:2]
        state = self.initial_state(batch) if state is None else detached(state)
        if len(state) != batch:
            raise ValueError(f"the state is of {len(state)} sequences, the inputs of {batch}")
        outs: list[list[list[Tensor]]] = [[] for _ in self.graph.outs]
        losses: list[list[Tensor]] = []
        after: State = []
        for row in range(batch):
            one, known = state[row], []
            rows: list[list[Tensor]] = [[] for _ in self.graph.outs]
            for t in range(ticks):
                given = {n: x[row, t][None] for n, x in ports.items()}
                if truncate and one["tick"] and one["tick"] % truncate == 0:
                    one = detached(one)
                one, values, loss = self._tick(one, given)
                known += loss
                for port, values_out in zip(self.graph.outs, rows, strict=True):
                    values_out.append(values[port.stream] if port.heads else values[port.stream][0])
                if progress is not None:
                    progress(t)
            for out, ticked in zip(outs, rows, strict=True):
                out.append(ticked)
            losses.append(known)
            after.append(one)
        return outs, losses, after

    def _tick(
        self, state: dict[str, Any], given: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Any], list[Tensor]]:
        """One tick of one sequence: what waited for it first, then the body from top to bottom."""
        number, losses = state["tick"], []
        if self.ahead and "waiting" in state:
            losses.append(self._late(state["waiting"], number - 1, given))
        if self._segment and number % self._segment == 0:
            if self.ahead and number:
                state = segments.close(self, state, given)
            state = segments.opened(state, self.graph)
        tick = Tick(self, self.graph.tick, self.facts(self.graph.tick), dict(state["frame"]), given, number)
        values = tick.run()
        state = state | {"tick": number + 1, "frame": tick.frame}
        if self._segment:
            state = segments.noted(state, tick, given)
        if self.ahead:
            state["waiting"] = {n: values[n] for n in self._waited_for if n in values}
        elif self.graph.loss:
            losses.append(values[self.graph.loss].reshape(()))
            if self._segment and (number + 1) % self._segment == 0:
                state = segments.close(self, state, None)
        return state, values, losses

    def _late(self, waiting: Mapping[str, Any], number: int, following: Mapping[str, Tensor]) -> Tensor:
        """The loss of a tick, now that the next tick's inputs are known."""
        tick = Tick(self, self.graph.tick, self.facts(self.graph.tick), {}, {}, number)
        return self.loss_of(tick, dict(waiting), following)

    def loss_of(self, tick: Tick, values: dict[str, Any], following: Mapping[str, Tensor] | None) -> Tensor:
        if not self.ahead:
            return values[self.graph.loss].reshape(())  # type: ignore[no-any-return]
        assert following is not None
        for stream in self.graph.streams.values():
            if stream.op == "next":
                values[stream.id] = following[str(stream.args[0])]
        return tick.late(values)[self.graph.loss].reshape(())  # type: ignore[no-any-return]

    def _named(self, inputs: Inputs) -> dict[str, Tensor]:
        ports: tuple[Port, ...] = self.graph.tick.inputs
        given = {ports[0].id: inputs} if isinstance(inputs, Tensor) else dict(inputs)
        for port in ports:
            if port.id not in given:
                raise ValueError(f"the program is over {', '.join(p.id for p in ports)}; `{port.id}` is missing")
            shape = tuple(map(int, port.shape))
            if tuple(given[port.id].shape[2:]) != shape:
                raise ValueError(
                    f"`{port.id}` must be [batch, ticks, *{list(shape)}], not {list(given[port.id].shape)}"
                )
        return {p.id: given[p.id] if p.dtype == "int" else given[p.id].to(self.dtype) for p in ports}

    # What the machine looks up

    def facts(self, body: Body) -> Facts:
        return self._facts.get(id(body)) or self._facts.setdefault(id(body), Facts.of(body, self.dtype))

    def start_of(self, memory: Memory, leaf: Leaf, path: str, lane: tuple[int, int]) -> Tensor:
        """A leaf's drawn or learned start, [heads or 1, *shape]; inside a rule, the part of the head it serves."""
        name = f"{path}{memory.id}.{leaf.name}"
        if name in self.parameters:
            value = self.parameters[name]
        else:
            heads = memory.heads * lane[1] if path and memory.start == "learned" else memory.heads
            value = self._constants.setdefault(name, draw(name, leaf, heads, self.seed, self.dtype))
            if not path:
                return value if memory.heads else value[None]
        if path:
            return self._served(value, memory, leaf, lane)
        return value if memory.heads else value[None]

    @staticmethod
    def _served(value: Tensor, memory: Memory, leaf: Leaf, lane: tuple[int, int]) -> Tensor:
        rows = value.reshape(-1, *map(int, leaf.shape))
        own = max(1, memory.heads)
        return rows[lane[0] * own : (lane[0] + 1) * own] if rows.shape[0] > own else rows

    def parameter_rank(self, memory: str, leaf: str) -> int:
        """The number of axes of a parameter's shape, heads aside."""
        return len(self._parameters[f"{memory}.{leaf}"].leaf.shape)

    def weight_like(self, memory: str, leaf: str) -> Tensor:
        record = self.graph.memories[memory]
        found = next(x for x in record.leaves if x.name == leaf)
        return torch.zeros(max(1, record.heads), *map(int, found.shape), dtype=self.dtype)


def detached(state: Any) -> Any:
    """The same state as data."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {k: detached(v) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(detached(v) for v in state)
    return state
