"""A program that no longer learns while it reads: what in-context learning is measured against."""

from __future__ import annotations

from dataclasses import replace

from nldsl.graph import Body, LevelGraph, Objective
from nldsl.network import level_graph


def learns_in_context(graph: LevelGraph) -> bool:
    """Whether there is anything that `frozen` takes away."""
    return any(map(_taught_by_descent, graph.objectives))


def frozen(graph: LevelGraph) -> LevelGraph:
    """The same program without its learns on the token clock: their memories stay at their learned starts.

    What reads on without descent stays: `M <- …`, states, convolutions, and attention, whose pairs are a closed form.
    The learns of training steps stay too, so that the parameters keep their names.
    """
    records = tuple(r for r in graph.tick.records if not (isinstance(r, Objective) and _taught_by_descent(r)))
    tick: Body = replace(graph.tick, records=records)
    return level_graph(
        graph.program, graph.kind, graph.hyper, tick, graph.bodies, graph.loss, graph.outs, graph.level_names
    )


def _taught_by_descent(learn: Objective) -> bool:
    return learn.every.unit == "token" and learn.kind != "pairs"
