"""Learning from the model's own loss on a token clock (rule 12).

A segment is as long as the shortest such period. It closes when its last target is known: its ticks are run again with
the weights of the memories that learn as variables, the loss is differentiated, and windows that are full are written,
before the next tick reads. Until then the state keeps the opening frame and the segment's inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from nldsl.compiler.reference import updates
from nldsl.compiler.reference.machine import Frame, Tick, Weights, choose
from torch import Tensor

from nldsl.graph import LevelGraph, Objective

State = dict[str, Any]


def loss_learns(graph: LevelGraph) -> tuple[Objective, ...]:
    return tuple(o for o in graph.objectives if o.kind == "loss" and o.every.unit == "token")


def segment_length(graph: LevelGraph) -> int:
    """The shortest period of a token-clock learn from the loss, 0 if there is none."""
    return min((o.every.count for o in loss_learns(graph)), default=0)


def reach(graph: LevelGraph) -> int:
    """How many segments back a gradient of the loss may reach."""
    length = segment_length(graph)
    return max((-(-o.through // length) for o in loss_learns(graph)), default=1) or 1


def opened(state: State, graph: LevelGraph) -> State:
    """Begin a segment, forgetting those that no gradient reaches."""
    fresh = {"tick": state["tick"], "frame": state["frame"], "inputs": (), "data": (), "notes": ()}
    return state | {"segments": (*state.get("segments", ()), fresh)[-reach(graph) :]}


def noted(state: State, tick: Tick, inputs: Mapping[str, Tensor]) -> State:
    """Keep a tick of the open segment."""
    *before, segment = state["segments"]
    data = {s.id: tick.values[s.id] for s in tick.machine.data_streams}
    notes = tick.notes | {"restarted": dict(tick.restarted)}
    segment = segment | {
        "inputs": (*segment["inputs"], dict(inputs)),
        "data": (*segment["data"], data),
        "notes": (*segment["notes"], notes),
    }
    return state | {"segments": (*before, segment)}


def close(machine: Any, state: State, following: Mapping[str, Tensor] | None) -> State:
    """The open segment's gradients, and the writes that are due. following: the inputs of the next tick."""
    graph: LevelGraph = machine.graph
    frame: Frame = dict(state["frame"])
    notes = state["segments"][-1]["notes"]
    due: list[Objective] = []
    gradients: dict[str, Weights] = {}
    shared: dict[Any, list[Objective]] = {}
    for record in loss_learns(graph):
        plain = not record.when and not record.weights
        shared.setdefault((record.through,) if plain else record.id, []).append(record)
    for together in shared.values():
        found = _gradients(machine, state, together, following)
        for record in together:
            gradients[record.id] = {k: g for k, g in found.items() if k[0] in record.memories}
    tick = Tick(machine, graph.tick, machine.facts(graph.tick), frame, {}, state["tick"])
    for record in loss_learns(graph):
        gradient = gradients[record.id]
        if record.detached:
            gradient = {k: g.detach() for k, g in gradient.items()}
        kept = dict(frame.get(record.id, {}))
        sums = kept.get("sum", {})
        kept["sum"] = sums | {k: sums[k] + g if k in sums else g for k, g in gradient.items()}
        kept["counted"] = _counted(record, notes, kept.get("counted", {}))
        frame[record.id] = kept
        if state["tick"] % record.every.count == 0:
            due.append(record)
    for record in due:
        heads = set(frame[record.id]["counted"])
        updates.write(tick, record, {}, notes[-1][record.id]["rates"], heads)
        lasting = ("anchor", "rules", "begun")
        frame[record.id] = {n: v for n, v in frame[record.id].items() if n in lasting}
    return state | {"frame": frame}


def _counted(record: Objective, notes: tuple[Any, ...], before: Mapping[Any, bool]) -> dict[Any, bool]:
    counted = dict(before)
    for note in notes:
        for memory, lanes in note[record.id]["active"].items():
            counted |= {(memory, h): False for h, again in enumerate(note["restarted"].get(memory, ())) if again}
            for h, on in enumerate(lanes):
                counted[memory, h] = counted.get((memory, h), False) or on
    return counted


def _gradients(
    machine: Any, state: State, together: list[Objective], following: Mapping[str, Tensor] | None
) -> Weights:
    """The gradient of the segment's loss with respect to the weights of these learns' memories. Where a condition or a
    factor differs from head to head, each head has a loss of its own."""
    memories = machine.facts(machine.graph.tick).memories
    names = [(m, leaf.name) for r in together for m in r.memories for leaf in memories[m].leaves]
    names = list(dict.fromkeys(names))
    record = together[0]
    notes = state["segments"][-1]["notes"]
    if not record.when and not record.weights:
        ones = [{m: 1.0 for m, _ in names}] * len(notes)
        return _replayed(machine, state, together, names, [1.0] * len(ones), following)
    result: dict[tuple[str, str], list[Tensor]] = {n: [] for n in names}
    for i, memory in enumerate(record.memories):
        own = [n for n in names if n[0] == memory]
        for lane in range(max(1, memories[memory].heads)):
            factors = []
            for note in notes:
                said = note[record.id]
                on = float(said["active"][memory][lane])
                weight = said["weights"][i] if said["weights"] else torch.ones(1, dtype=machine.dtype)
                factors.append(on * weight[min(lane, weight.shape[0] - 1)] if on else 0.0)
            found = _replayed(machine, state, together, own, factors, following)
            for n in own:
                result[n].append(found[n][lane])
    return {n: torch.stack(rows) for n, rows in result.items()}


def _replayed(
    machine: Any,
    state: State,
    together: list[Objective],
    names: list[tuple[str, str]],
    factors: list[Any],
    following: Mapping[str, Tensor] | None,
) -> Weights:
    """Run the last segments again with their weights shifted by a variable, and differentiate at no shift."""
    graph: LevelGraph = machine.graph
    graph_memories = machine.facts(graph.tick).memories
    back = -(-together[0].through // segment_length(graph)) or 1
    segments = state["segments"][-back:]
    learned = {m for o in loss_learns(graph) for m in o.memories}
    first_tick = segments[0]["tick"]
    restarts: dict[tuple[str, int], int] = {}  # the last one of each head
    ticks = [(s, i) for s in segments for i in range(len(s["inputs"]))]
    for number, (segment, i) in enumerate(ticks):
        for m, lanes in segment["notes"][i]["restarted"].items():
            restarts |= {(m, h): first_tick + number for h, on in enumerate(lanes) if on and m in learned}

    def heads(memory: str) -> range:
        return range(max(1, graph_memories[memory].heads))

    def loss(deltas: tuple[Tensor, ...]) -> Tensor:
        shift: dict[str, dict[str, Tensor]] = {}
        for (memory, leaf), delta in zip(names, deltas, strict=True):
            shift.setdefault(memory, {})[leaf] = delta
        frame: Frame = {}
        total = torch.zeros((), dtype=machine.dtype)
        number = first_tick
        for segment in segments:
            frame = _reopened(machine, segment["frame"], frame, learned, shift, restarts, number)
            for i, inputs in enumerate(segment["inputs"]):
                again = {m: (d, [restarts.get((m, h)) == number for h in heads(m)]) for m, d in shift.items()}
                tick = Tick(
                    machine,
                    graph.tick,
                    machine.facts(graph.tick),
                    frame,
                    inputs,
                    number,
                    recorded=segment["data"][i],
                    shift=again,
                )
                values = tick.run()
                frame = tick.frame
                if segment is segments[-1]:
                    ahead = segment["inputs"][i + 1] if i + 1 < len(segment["inputs"]) else following
                    total = total + (factors[i] * machine.loss_of(tick, values, ahead)).sum()
                number += 1
        return total

    zeros = tuple(torch.zeros_like(machine.weight_like(*n)) for n in names)
    found = torch.func.grad(loss)(zeros)
    return dict(zip(names, found, strict=True))


def _reopened(
    machine: Any,
    opening: Frame,
    running: Frame,
    learned: set[str],
    shift: Mapping[str, Mapping[str, Tensor]],
    restarts: Mapping[tuple[str, int], int],
    number: int,
) -> Frame:
    """The frame a replayed segment begins with: what the replay carried, but for the memories that learn from the loss,
    whose weights are those of that time, shifted."""
    frame = dict(opening) if not running else running | {m: opening[m] for m in learned if m in opening}
    for memory, deltas in shift.items():
        if memory not in frame:
            continue
        weights = frame[memory]["weights"]
        count = max(w.shape[0] for w in weights.values())
        lanes = [restarts.get((memory, h), -1) < number for h in range(count)]
        frame[memory] = frame[memory] | {"weights": {n: _moved(lanes, w, deltas.get(n)) for n, w in weights.items()}}
        for learn in machine.facts(machine.graph.tick).learns:
            anchor = frame.get(learn.id, {}).get("anchor", {})
            if any(m == memory for m, _ in anchor):
                moved = {k: _moved(lanes, w, deltas.get(k[1])) if k[0] == memory else w for k, w in anchor.items()}
                frame[learn.id] = frame[learn.id] | {"anchor": moved}
    return frame


def _moved(lanes: list[bool], weight: Tensor, delta: Tensor | None) -> Tensor:
    return weight if delta is None else choose(lanes, weight + delta, weight)
