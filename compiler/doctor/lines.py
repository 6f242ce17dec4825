"""From what was seen to the lines of a report, each with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from nldsl.compiler.doctor import verdicts
from nldsl.compiler.doctor.horizon import Horizons
from nldsl.compiler.doctor.parameters import STEPS, Trained
from nldsl.compiler.doctor.probe import pairs_of
from nldsl.compiler.doctor.reading import Seen, Sizes
from nldsl.compiler.doctor.report import FINE, GateLine, MemoryLine, ParameterLine, Report, WriterLine
from nldsl.compiler.doctor.shares import share
from nldsl.compiler.doctor.sizes import Scale
from nldsl.compiler.doctor.ways import keep_more, learn_less
from nldsl.compiler.doctor.writers import Gate, Writer, gates, writers, written
from nldsl.compiler.module import CompiledModule
from torch import Tensor

from nldsl.graph import LevelGraph

NAN = float("nan")


def lines_of(
    module: CompiledModule,
    scales: Mapping[str, Scale],
    sizes: Sizes,
    horizons: Sequence[Horizons],
    seen: Seen,
    steps: Trained,
) -> Report:
    """The report of an examination."""
    graph = module.graph
    rates = gates(graph)
    who = {writer: _writer(writer, graph, seen) for writer in writers(graph)}
    gate_lines = [_gate(gate, seen) for gate in rates]
    means = {gate.stream: line.mean for gate, line in zip(rates, gate_lines, strict=True)}
    memory_lines = []
    for line in _memories(graph, scales, sizes, horizons, seen):
        own = {w: said for w, said in who.items() if line.memory in w.memories}
        memory_lines.append(replace(line, verdict=_verdict(module, line, own, means, seen)))
    return Report(
        program=graph.program,
        tokens=seen.ticks,
        batch=seen.batch,
        memories=tuple(memory_lines),
        writers=tuple(who.values()),
        gates=tuple(gate_lines),
        parameters=tuple(ParameterLine(n, verdict=verdicts.dead(STEPS, steps.length)) for n in steps.dead),
        learned=steps.learned,
        steps=STEPS,
        length=steps.length,
        other=tuple(_other(seen, steps)),
    )


def _memories(
    graph: LevelGraph, scales: Mapping[str, Scale], sizes: Sizes, horizons: Sequence[Horizons], seen: Seen
) -> list[MemoryLine]:
    """The numbers, without verdicts."""
    found = {name: h.found[name] for h in horizons for name in h.found}
    looked = {name: seen.ticks - h.warm for h in horizons for name in h.found if not seen.broken}
    return [
        MemoryLine(
            memory=name,
            sizes=sizes.found.get(name, {}),
            fresh=name in scales and scales[name].fresh,
            pairs=pairs_of(seen.state, name) if memory.form == "attention" and seen.state else 0,
            horizon=found.get(name),
            looked=looked.get(name, 0),
        )
        for name, memory in written(graph).items()
    ]


def _verdict(
    module: CompiledModule, line: MemoryLine, own: Mapping[Writer, WriterLine], means: Mapping[str, float], seen: Seen
) -> str:
    if seen.broken and seen.broken[0] == line.memory:
        return verdicts.not_finite(seen.broken[1])
    said = [writer.verdict for writer in own.values()]
    if said and FINE not in said:
        return said[0]
    memory = module.graph.memories[line.memory]
    if memory.form != "weights":  # what a program puts into a state is its own affair
        return FINE
    more = keep_more(module.runner, line.memory, list(own), means)
    restarts = bool(memory.reset_every or memory.reset_when)
    return verdicts.of_memory(line, more, learn_less(module.runner, list(own)), restarts)


def _writer(writer: Writer, graph: LevelGraph, seen: Seen) -> WriterLine:
    if not seen.ticks:
        return WriterLine(writer.name, writer.every, NAN)
    ahead = graph.loss in graph.streams and graph.streams[graph.loss].lag == 1
    shares = [share(writer, graph.memories[m], seen.shown, seen.ticks, ahead) for m in writer.memories]
    mean = sum(shares) / len(shares)
    verdict = FINE if seen.broken else verdicts.of_writer(writer, mean, seen.ticks)
    return WriterLine(writer.name, writer.every, mean, verdict=verdict)


def _gate(gate: Gate, seen: Seen) -> GateLine:
    values = seen.shown.get(gate.stream, torch.empty(0, 0))[:, gate.every - 1 :: gate.every].detach().double()
    line = GateLine(gate.text, gate.roles, gate.memories, *_spread(values))
    return replace(line, verdict=verdicts.of_gate(line))


def _spread(values: Tensor) -> tuple[float, float, float]:
    if not values.numel():
        return NAN, NAN, NAN
    return float(values.mean()), float(values.min()), float(values.max())


def _other(seen: Seen, steps: Trained) -> list[str]:
    found = []
    if seen.broken and not seen.broken[0]:
        found.append(
            f"an output is not finite from token {seen.broken[1]:,} on, while every memory is; smaller rates may help"
        )
    if steps.broken:
        found.append(f"the loss of training step {steps.broken} is not finite; smaller rates may help")
    return found
