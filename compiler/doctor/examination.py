"""The examination: a program reads a text, is looked at on the way, and takes three training steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nldsl.compiler.doctor.horizon import TOGETHER, Horizons, with_copies
from nldsl.compiler.doctor.lines import lines_of
from nldsl.compiler.doctor.parameters import STEPS, Trained, length_for, trained
from nldsl.compiler.doctor.probe import Inputs, Probe, starts_of
from nldsl.compiler.doctor.reading import Sizes, read
from nldsl.compiler.doctor.report import Report
from nldsl.compiler.doctor.sizes import scale_of
from nldsl.compiler.doctor.writers import gates, writers, written
from nldsl.compiler.module import CompiledModule

from nldsl.graph import LevelGraph, Memory

MARKS = (16, 256)  # tokens after which sizes are taken, besides all of them


def examine(
    module: CompiledModule, inputs: Inputs, seed: int = 0, progress: Callable[[int], None] = lambda tokens: None
) -> Report:
    """Examine a program. It is left as it was.

    inputs: [batch, ticks, (heads,) *shape], one per port; ticks are at least 2. seed: of the directions in which
    memories are moved. progress: is told how many more tokens were read; `work` says how many there are.
    """
    batch, ticks = inputs[0].shape[:2]
    memories = written(module.graph)
    scales = {name: scale_of(memories[name], start) for name, start in starts_of(module, memories).items()}
    sizes = Sizes(scales, batch, (*(m for m in MARKS if m < ticks), ticks))
    probe = Probe(module, _streams(module.graph))
    first, *others = _groups(list(memories.values()))
    horizons = [Horizons(first, batch, ticks, seed)]
    copies = with_copies(inputs, len(first))
    seen = read(probe, copies, batch, list(memories.values()), [sizes, *horizons], progress)
    steps = Trained(0, (), 0)
    if seen.broken is None:
        horizons += [_alone(probe, inputs, group, seed, progress) for group in others]
        steps = trained(module, inputs, progress)
    return lines_of(module, scales, sizes, horizons, seen, steps)


def _alone(
    probe: Probe, inputs: Inputs, group: Sequence[Memory], seed: int, progress: Callable[[int], None]
) -> Horizons:
    """The horizons of more memories than fit into the first run."""
    rows = with_copies(tuple(x[:1] for x in inputs), len(group))
    horizons = Horizons(group, 1, inputs[0].shape[1], seed)
    read(probe, rows, 1, [], [horizons], progress)
    return horizons


def _groups(memories: Sequence[Memory]) -> list[list[Memory]]:
    """The memories with weights, some at a time; at least one group."""
    movable = [m for m in memories if m.form != "attention"]
    return [movable[i : i + TOGETHER] for i in range(0, len(movable), TOGETHER)] or [[]]


def _streams(graph: LevelGraph) -> list[str]:
    """What has to be seen of every tick: gates, and the conditions of writes and restarts."""
    conditions = [w.when for w in writers(graph)] + [m.reset_when for m in written(graph).values()]
    return [*(gate.stream for gate in gates(graph)), *filter(None, conditions)]


def work(graph: LevelGraph, batch: int, ticks: int) -> int:
    """How many tokens an examination reads, all rows together."""
    first, *others = _groups(list(written(graph).values()))
    rows = batch + len(first) + sum(1 + len(group) for group in others)
    return rows * ticks + STEPS * batch * length_for(graph, ticks)
