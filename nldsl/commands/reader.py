"""A model that reads bytes in the reference interpreter, piece by piece. The one part of the commands that needs
torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nldsl.clocks import shown
from nldsl.compiler.reference import Interpreter
from nldsl.diagram.fold import Folding
from nldsl.graph import LevelGraph, Memory, Objective
from nldsl.levels import Member, levels_of
from nldsl.parameters import learned_parameters
from nldsl.writes import paces

SHOWN = 2  # members named in the summary
Moved = dict[str, tuple[float, float]]  # member -> squared norm of its change, and of its start


class Reader:
    """Reads on from where it stands; keeps one sequence's state."""

    def __init__(self, graph: LevelGraph, seed: int) -> None:
        torch.set_num_threads(1)  # the tensors of one token are small
        self.graph = graph
        self.parameters = sum(p.size for p in learned_parameters(graph).values())
        self.machine = Interpreter(graph, seed=seed)
        self.state: Any = None
        self.read_so_far = 0

    def read(self, piece: bytes) -> list[float]:
        """The losses that became known, in nats, in the order of the text."""
        with torch.no_grad():
            losses, self.state = self.machine.losses(torch.tensor([list(piece)]), self.state)
        self.read_so_far += len(piece)
        return [float(loss) for loss in losses[0]]

    def summary(self) -> str:
        """Per level: how often it could write, and how far its memories are from where they started."""
        frame: Mapping[str, Any] = self.state[0]["frame"] if self.state else {}
        moved = dict(_moved(frame, self.graph.tick.records, "", self.graph))
        rows = [("level", "period", "writes", "moved", "members")]
        levels = levels_of(self.graph)
        fold = Folding.of(m.id for level in levels for m in level)
        for level, pace in zip(levels, paces(self.graph), strict=True):
            members = list(dict.fromkeys(fold(m.id) for m in level))
            names = ", ".join(members[:SHOWN]) + (f" and {len(members) - SHOWN} more" if len(members) > SHOWN else "")
            number, writes = str(pace.levels[0]), f"{pace.writes(self.read_so_far):,}"
            rows.append((number, shown(level[0].period), writes, self._change(level, moved), names))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _change(self, level: list[Member], moved: Moved) -> str:
        known = [moved[m.id] for m in level if m.id in moved]
        pairs = sum(self._pairs(m.id) for m in level)
        if pairs:
            return f"{pairs:,} pairs kept"
        if not known:
            return "-"
        change, start = (sum(part) ** 0.5 for part in zip(*known, strict=True))
        return f"{100 * change / start:.4g} %" if start else f"{change:.4g} from zero"

    def _pairs(self, memory: str) -> int:
        frame = self.state[0]["frame"] if self.state else {}
        kept = frame.get(memory, {}).get("pairs", ()) if isinstance(frame.get(memory), dict) else ()
        return sum(len(pairs) for pairs in kept)


def _moved(frame: Mapping[str, Any], records: Any, prefix: str, graph: LevelGraph) -> Iterator[tuple[str, Any]]:
    """For every memory of a frame, and of the frames of its learns' rules, how far it is from its start."""
    for record in records:
        kept = frame.get(record.id)
        if not isinstance(kept, dict):
            continue
        if isinstance(record, Memory) and "weights" in kept and "start" in kept:
            weights: Mapping[str, Tensor] = kept["weights"]
            yield prefix + record.id, _norms(weights, kept["start"])
        elif isinstance(record, Objective):
            yield from _inside(kept.get("rules", {}), record, prefix, graph)


def _inside(kept: Mapping[Any, Any], learn: Objective, prefix: str, graph: LevelGraph) -> Iterator[tuple[str, Any]]:
    """The same for the memories inside a learn's rules, summed over the weights they serve."""
    total: dict[str, tuple[float, float]] = {}
    for (_, _, _, name, retains), slot in kept.items():
        rule = learn.retention if retains else learn.optimizer
        assert rule is not None
        inner = f"{prefix}{learn.id} {rule.name}."
        for member, (change, start) in _moved(slot["frame"], graph.bodies[name].records, inner, graph):
            before = total.get(member, (0.0, 0.0))
            total[member] = (before[0] + change, before[1] + start)
    yield from total.items()


def _norms(weights: Mapping[str, Tensor], starts: Mapping[str, Tensor]) -> tuple[float, float]:
    change = sum(float(((weights[n].detach() - starts[n].detach()) ** 2).sum()) for n in weights)
    return change, sum(float((starts[n].detach() ** 2).sum()) for n in weights)
