"""A program whose inner streams are outputs too, and what is read off its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from nldsl.compiler import memories as running
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.state import State
from torch import Tensor

from nldsl.graph import LevelGraph, Memory, Port
from nldsl.network import level_graph

Weights = dict[str, Tensor]  # by leaf, [batch, 1, heads or 1, *shape]
Inputs = tuple[Tensor, ...]  # [batch, ticks, (heads,) *shape], one per port


class Probe:
    """A module that reads like another one, and shows some of its streams."""

    def __init__(self, module: CompiledModule, streams: Iterable[str]) -> None:
        self.streams = tuple(dict.fromkeys(streams))
        self.module = copied(module, _shown(module.graph, self.streams))
        self.own = len(module.graph.outs)

    def read(self, inputs: Inputs, state: State | None) -> tuple[dict[str, Tensor], list[Tensor], State]:
        """Read on. Gives the shown streams [batch, ticks, (heads,) *shape], the program's outputs and the state."""
        with torch.no_grad():
            *outs, after = self.module(*inputs, state=state)
        shown = dict(zip(self.streams, outs[self.own :], strict=True))
        return shown, outs[: self.own], after


def copied(module: CompiledModule, graph: LevelGraph | None = None) -> CompiledModule:
    """A module with parameters of its own that are the same. graph: another one with these parameters."""
    runner = module.runner
    made = CompiledModule(graph or module.graph, seed=runner.seed, dtype=module.dtype).to(module.device)
    made.load_state_dict(module.state_dict())
    return made


def _shown(graph: LevelGraph, names: Sequence[str]) -> LevelGraph:
    known = {p.id: p for p in graph.tick.inputs} | dict(graph.streams)
    outs = [Port(f"shown {n}", "out", known[n].shape, known[n].heads, known[n].dtype, stream=n) for n in names]
    return level_graph(
        graph.program, graph.kind, graph.hyper, graph.tick, graph.bodies, graph.loss, (*graph.outs, *outs),
        graph.level_names,
    )  # fmt: skip


def weights_of(state: State, memory: str) -> Weights:
    """The running weights of a memory, by leaf; none for attention."""
    [part] = state["parts"]
    kept: Weights = part["frame"].get(memory, {}).get("weights", {})
    return kept


def pairs_of(state: State, memory: str) -> int:
    """How many pairs attention keeps."""
    [part] = state["parts"]
    return int(part["frame"][memory]["keys"].shape[1])


def starts_of(module: CompiledModule, memories: Mapping[str, Memory]) -> dict[str, Weights]:
    """Where these memories start, before anything is read: [1, 1, heads or 1, *shape]."""
    runner = module.runner
    runner.moved(module.device, module.dtype)
    piece = runner.piece({}, {}, dict(module.named_parameters()), 1, 1, 0)
    with torch.no_grad():
        return {
            name: {leaf.name: running.full(piece, m, leaf, running.start(piece, m, leaf.name)) for leaf in m.leaves}
            for name, m in memories.items()
            if m.form != "attention"
        }
