"""The two runs that are counted: a training step, and reading on by one token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from nldsl.compiler.cost.counting import Counting, OwnedSteps
from nldsl.compiler.cost.fused import FusedAttention
from nldsl.compiler.cost.measured import Measured
from nldsl.compiler.cost.shapes import META, Shapes, storage_of
from nldsl.compiler.distribute import Loop
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.nested import detached
from nldsl.compiler.steps import Steps
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

from nldsl.graph import LevelGraph, Port

State = dict[str, Any]


class Subject:
    """A program on the meta device, to be run for `batch` sequences. owned: whether all that is done in bodies belongs
    to a record; otherwise they run as they do, with backward passes of their own."""

    def __init__(self, graph: LevelGraph, batch: int, dtype: torch.dtype, owned: bool = True) -> None:
        self.graph, self.batch, self.dtype = graph, batch, dtype
        self.module = CompiledModule(graph, dtype=dtype, device=META)
        self.runner = self.module.runner
        self.runner.moved(torch.device(META), dtype)
        self.runner.steps = OwnedSteps() if owned else Steps(patience=0)
        self.parameters = dict(self.module.named_parameters())
        self.shapes = Shapes()
        self.fakes = FakeTensorMode(allow_fallback_kernels=True)

    def streams(self, ticks: int) -> dict[str, Tensor]:
        return {p.id: self._stream(p, ticks) for p in self.graph.tick.inputs}

    def _stream(self, port: Port, ticks: int) -> Tensor:
        dtype = torch.int64 if port.dtype == "int" else self.dtype
        return torch.empty(self.batch, ticks, port.heads or 1, *map(int, port.shape), dtype=dtype, device=META)

    @contextmanager
    def counting(self, held: Iterable[tuple[str, Any]]) -> Iterator[Counting]:
        """held: by record, what is alive besides the parameters. (One fake mode for all that is traced: by itself torch
        makes one for each operator.)"""
        mode = Counting(self.shapes)
        for name, p in self.parameters.items():
            mode.keep(p, name)
        for record, value in held:
            for x in leaves(value):
                mode.keep(x, record)
        self.runner.watch = mode.at
        if isinstance(self.runner.steps, OwnedSteps):
            self.runner.steps.at = mode.at
        with ExitStack() as stack:
            stack.enter_context(tracing(TracingContext(self.fakes)))
            stack.enter_context(mode)
            if any(m.form == "attention" for m in self.graph.memories.values()):
                stack.enter_context(FusedAttention())
            yield mode

    # Training

    def training(self, ticks: int) -> Measured:
        """One step: forward, backward, and the optimizers of the step clock, which keep something from step to step."""
        optimizers = self.module.optimizers()
        self._gathered(optimizers)
        names = {id(p): name for name, p in self.parameters.items()}
        given = self.streams(ticks)
        if not self.graph.loss:  # as inside a network
            given = {n: x.requires_grad_() if x.is_floating_point() else x for n, x in given.items()}
        held = [*((names[id(p)], kept) for o in optimizers for p, kept in o.state.items()), ("", given)]
        with self.counting(held) as mode:
            self._backward(given)
            mode.at("")
            for optimizer in optimizers:
                optimizer.step()
        for p in self.parameters.values():
            p.grad = None
        return Measured(mode.works, mode.peak())

    def _gathered(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Lets the optimizers make what they keep from step to step."""
        with self.counting(()):
            for p in self.parameters.values():
                p.grad = torch.empty_like(p)
            for optimizer in optimizers:
                optimizer.step()
            for p in self.parameters.values():
                p.grad = None

    def _backward(self, given: dict[str, Tensor]) -> None:
        """As `CompiledModule.backward`; of a block, the gradients of its outputs."""
        learns = [o for o in self.graph.objectives if o.every.unit == "step"]
        for through in dict.fromkeys(o.through for o in learns if o.kind == "loss") or {0: None}:
            ran = self.runner.run(given, {}, 0, self.parameters, through)
            assert self.runner.watch is not None
            self.runner.watch("")
            asked = [ran.losses[:, ran.known :].mean()] if self.graph.loss else ran.outs
            asked = [x for x in [*asked, *self._carried(ran.state)] if x.requires_grad]
            wanted: list[Tensor] = [p for name, p in self.parameters.items() if self._learns(name, through)]
            wanted += [x for x in given.values() if x.requires_grad]
            if asked and wanted:
                one = torch.ones((), dtype=self.dtype, device=META)
                torch.autograd.backward(asked, [one.to(x.dtype).expand_as(x) for x in asked], inputs=wanted)
            for sums in ran.local.values():
                for name, g in sums.items():
                    self._add(self.parameters[name], g.detach())
            if not self.graph.loss:
                return

    def _carried(self, state: State) -> Iterator[Tensor]:
        """What loops hand on. One backward pass serves all chunks: the last one's goes through what it wrote, too."""
        for loop in (s for s in self.module.plan.stages if isinstance(s, Loop)):
            for record in dict.fromkeys((*loop.memories, *(r.id for r, _ in loop.nodes))):
                yield from leaves(state["frame"].get(record, {}))

    def _learns(self, name: str, through: int) -> bool:
        """Whether a parameter learns from the loss, cut at every `through` ticks; in a block all do."""
        if not self.graph.loss:
            return True
        learns = [o for o in self.graph.objectives if o.every.unit == "step" and o.kind == "loss"]
        rules = [o.optimizer for o in learns if o.through == through and o.optimizer]
        return any(f"{memory}.{leaf}" == name for rule in rules for memory, leaf, _ in rule.bodies)

    @staticmethod
    def _add(p: Tensor, g: Tensor) -> None:
        mean = (g / 1.0).reshape(p.shape)
        p.grad = mean if p.grad is None else p.grad + mean

    # Reading on

    def read(self, ticks: int, state: State, number: int) -> State:
        """The state after so many ticks more, of which `number` is the first. Nothing is counted, and gradients could
        be taken, so that the bodies are those that are traced for training."""
        if not ticks:
            return state
        with self.counting(()):
            ran = self.runner.run(self.streams(ticks), state, number, self.parameters)
        return detached(ran.state)  # type: ignore[no-any-return]

    def decoding(self, state: State, number: int) -> tuple[Measured, State]:
        """Reading one token of each sequence, `number`."""
        given = self.streams(1)
        with torch.no_grad(), self.counting([("", given), *entries(state)]) as mode:
            ran = self.runner.run(given, state, number, self.parameters)
        return Measured(mode.works, mode.peak(), self.kept(ran.state)), detached(ran.state)

    def kept(self, state: State) -> dict[str, float]:
        """The bytes of a state by record, what it shares with the parameters left out."""
        known = {storage_of(p) for p in self.parameters.values()}
        found: dict[str, float] = {}
        for record, value in entries(state):
            for x in leaves(value):
                if storage_of(x) not in known:
                    known.add(storage_of(x))
                    found[record] = found.get(record, 0) + x.untyped_storage().nbytes()
        return found


def entries(state: State) -> Iterator[tuple[str, Any]]:
    """What a state keeps, by record: its frame, those with which open segments began, what else these note."""
    yield from state["frame"].items()
    for segment in state.get("segments", ()):
        yield from segment["frame"].items()
        yield from segment["notes"].items()
        yield from (("", value) for name, value in segment.items() if name not in ("frame", "notes"))
    yield "", state.get("waiting", {})


def leaves(value: Any) -> Iterator[Tensor]:
    """The tensors in nested dictionaries and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(inner)
