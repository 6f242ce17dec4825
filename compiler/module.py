"""A checked program as an `nn.Module`: named parameters, explicit state, memories that learn whenever it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from nldsl.compiler import inputs, optimizers, ragged
from nldsl.compiler import state as states
from nldsl.compiler.bodies.handing import compiler_of
from nldsl.compiler.nested import detached
from nldsl.compiler.plan import planned
from nldsl.compiler.ragged import Read
from nldsl.compiler.runner import Runner
from nldsl.compiler.starts import draw_all
from nldsl.compiler.state import State
from torch import Tensor, nn

from nldsl.collecting import uncollected
from nldsl.graph import LevelGraph
from nldsl.meaning import meaning
from nldsl.parameters import learned_parameters
from nldsl.vocabulary import vocabularies


class Scope(nn.Module):
    """A name of the text with parameters or further names under it."""

    def place(self, path: list[str], value: nn.Parameter) -> None:
        first, *rest = path
        if not rest:
            self._parameters[first] = value  # not `register_parameter`: an inner rule may stand under a weight's name
            return
        if first not in self._modules:
            self._modules[first] = Scope()
        inner = self._modules[first]
        assert isinstance(inner, Scope)
        inner.place(rest, value)


class CompiledModule(Scope):
    """A model, `module(ids) -> (logits, state)`, or a block, `module(x) -> (y, state)`.

    Inputs are [batch, ticks, (heads,) *shape]; so are outputs. `state` goes on where a call ended (what is handed in
    is data: no gradient goes back into it). `mask` [batch, ticks] is False where a row has no token: nothing happens
    there, and its outputs are 0. Raises ValueError for inputs or states that do not fit.

    memory_budget: the bytes that training may keep of the chunks of all memories; where they would be more, chunks are
    computed again in the backward pass, and always what stands between memories, unless compiled. 0 keeps everything.
    """

    _place: Tensor  # moves where there is no parameter

    def __init__(
        self,
        graph: LevelGraph,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        only: str = "",
        memory_budget: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        place = torch.device(device)
        self.graph = graph
        self.plan = planned(graph, only)
        self.runner = Runner(graph, self.plan.stages, dtype, seed, memory_budget)
        self.program = states.fingerprint(meaning(graph))
        self.vocabularies = vocabularies(graph)
        for name, value in draw_all(learned_parameters(graph).values(), seed, dtype, place).items():
            self.place(name.split("."), nn.Parameter(value.detach()))
        self.register_buffer("_place", torch.empty(0, dtype=dtype, device=place), persistent=False)

    # Running

    def initial_state(self, batch: int) -> State:
        """The state of `batch` sequences before their first tick."""
        return states.initial(batch, self.program, self.device)

    def forward(self, *streams: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Any, ...]:
        """(outputs..., state). A model's state may also be given by place: `module(ids, state, mask)`."""
        streams, state, mask = inputs.by_place(self.graph, streams, state, mask)
        outs, _, _, after, _ = self._run(streams, state, mask)
        return (*outs, after)

    def losses(
        self, *streams: Tensor, state: State | None = None, mask: Tensor | None = None, truncate: int = 0
    ) -> tuple[Tensor, Tensor, State]:
        """(losses, known, state), in nats [batch, ticks]: at each place the loss that became known when that token was
        read, which is how badly it had been predicted; known is False where there is none yet.
        truncate: carried states are data every so many ticks."""
        streams, state, mask = inputs.by_place(self.graph, streams, state, mask)
        _, losses, known, after, _ = self._run(streams, state, mask, truncate)
        return losses, known, after

    def loss(self, *streams: Tensor, state: State | None = None, mask: Tensor | None = None) -> Tensor:
        """The mean loss over all ticks whose target is known, in nats."""
        truncate = max((o.through for o in self.graph.objectives if o.every.unit == "step"), default=0)
        losses, known, _ = self.losses(*streams, state=state, mask=mask, truncate=truncate)
        return self._mean(losses, known)

    @staticmethod
    def _mean(losses: Tensor, known: Tensor) -> Tensor:
        if not bool(known.any()):
            raise ValueError("no token of this batch has a target: give at least two")
        return losses[known].mean()

    @uncollected()
    def backward(
        self, *streams: Tensor, state: State | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One training step's gradients: adds to the `.grad` of each parameter what its learn on the step clock asks
        for. Gives the mean loss and the state after, both as data."""
        streams, state, mask = inputs.by_place(self.graph, streams, state, mask)
        learns = [o for o in self.graph.objectives if o.every.unit == "step"]
        shown, after = torch.zeros((), dtype=self.dtype, device=self.device), state
        local: dict[str, dict[str, Tensor]] = {}
        named = dict(self.named_parameters())
        for through in dict.fromkeys(o.through for o in learns if o.kind == "loss") or {0: None}:
            _, losses, known, after, local = self._run(streams, state, mask, through)
            if not self.graph.loss:
                break
            shown = self._mean(losses, known)
            wanted = [
                named[f"{m}.{leaf}"]
                for o in learns
                if o.kind == "loss" and o.through == through and o.optimizer
                for m, leaf, _ in o.optimizer.bodies
            ]
            if wanted and shown.requires_grad:
                torch.autograd.backward(shown, inputs=[p for p in wanted if p.requires_grad])
        rows, ticks = streams[0].shape[:2]
        count = int(mask.sum()) if mask is not None else rows * ticks
        for learn in learns:
            for name, g in local.get(learn.id, {}).items():
                value = named[name]
                mean = (g.detach() / count).reshape(value.shape)
                value.grad = mean if value.grad is None else value.grad + mean
        assert after is not None
        return shown.detach(), detached(after)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """How the text says to train: one optimizer with a parameter group for each learn on the step clock, new and
        with nothing gathered; none if there is no such learn. `backward` computes the gradients that it uses."""
        return optimizers.optimizers(self.runner, dict(self.named_parameters()))

    def _run(self, streams: tuple[Tensor, ...], state: State | None, mask: Tensor | None, truncate: int = 0) -> Read:
        named = dict(self.named_parameters())
        self.runner.moved(self.device, self.dtype)
        ports = self.graph.tick.inputs
        given = {p.id: inputs.stream(p, x, self.dtype, self.device) for p, x in zip(ports, streams, strict=True)}
        batch, ticks = inputs.same_ticks(tuple(given.values()))
        mask = inputs.mask_of(mask, batch, ticks, self.device)
        if not torch.compiler.is_compiling():
            inputs.known_tokens(self.vocabularies, given, mask, self.graph.program)
        if state is None:
            state = self.initial_state(batch)
        else:
            state = states.checked(detached(state), batch, self.program, self.dtype, self.device)
        if mask is None and len(state["parts"]) == 1:
            part = state["parts"][0]
            ran = self.runner.run(given, states.kept(part), int(part["tick"]), named, truncate)
            known = (torch.arange(ticks, device=self.device) >= ran.known).expand(batch, ticks)
            after = state | {"parts": [states.part_after(part, ticks, ran.state)]}
            outs = [ragged.out(p, x) for p, x in zip(self.graph.outs, ran.outs, strict=True)]
            return outs, ran.losses, known, after, ran.local
        if mask is None:
            mask = torch.ones(batch, ticks, dtype=torch.bool, device=self.device)
        return ragged.read(self.runner, given, state, mask, named, truncate)

    def compile(self, **options: Any) -> None:
        """Compile the bodies of this program, each when it is first run: chunks with fixed shapes, what runs over all
        ticks for any number of them. options: those of `torch.compile`, such as `backend`."""
        if self.runner.segment:  # a segment is differentiated for itself, then again with all that follows
            import torch._functorch.config as functorch

            functorch.donated_buffer = False  # which says in its error that this is the way
        self.runner.steps.compiled(compiler_of(options))

    # What it is

    @property
    def device(self) -> torch.device:
        return self._example.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters, and so of all numbers."""
        return self._example.dtype

    @property
    def _example(self) -> Tensor:
        return next(self.parameters(), self._place)

    @property
    def levels(self) -> Any:
        """The level table, fastest first."""
        from nldsl.table import level_table

        return level_table(self.graph)

    def weights(self, state: State) -> dict[str, Tensor]:
        """The running values by name, [batch, (heads,) *shape]: memories that learn on a token clock, and states."""
        return dict(self._weights(state))

    def _weights(self, state: State) -> Iterator[tuple[str, Tensor]]:
        order = torch.cat([part["rows"] for part in state["parts"]]).argsort()
        for memory in self.graph.memories.values():
            for leaf in memory.leaves:
                found = [part.get("frame", {}).get(memory.id, {}).get("weights", {}) for part in state["parts"]]
                if found and all(leaf.name in weights for weights in found):
                    value = torch.cat([w[leaf.name][:, 0] for w in found])[order]
                    yield f"{memory.id}.{leaf.name}", value if memory.heads else value[:, 0]

    def __repr__(self) -> str:
        return f"{self.graph.program}\n{self.levels}"

    def _repr_svg_(self) -> str | None:
        """The level diagram, in notebooks."""
        from nldsl.diagram.draw import DrawError, svg

        try:
            return svg(self.graph)
        except DrawError:
            return None
