"""When the levels of a program write: how often within so many tokens and training steps, and when last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nldsl.clocks import fastest
from nldsl.graph import LevelGraph, Period
from nldsl.levels import Member, levels_of


@dataclass(frozen=True, slots=True)
class Pace:
    """When a level can write. levels: its number, or those of neighbours with the same pace. period: its window, also
    that of closed forms. late: how many tokens behind its window's last one a write happens: 1 for learning from a
    loss that waits for the next token."""

    levels: tuple[int, ...]
    period: Period
    late: int

    def writes(self, tokens: int, steps: int = 0) -> int:
        """How many writes there are in a sequence of so many tokens, or in so many training steps."""
        if self.period.unit == "step":
            return steps // self.period.count
        return max(0, tokens - self.late) // self.period.count if self.period.unit == "token" else 0

    def last(self, tokens: int, steps: int = 0) -> int:
        """The last token, or training step, of the last full window, counted from 1; 0 before the first."""
        return self.writes(tokens, steps) * self.period.count


def paces(graph: LevelGraph) -> list[Pace]:
    """The pace of every level, fastest first."""
    return [Pace((i,), *_pace(graph, level)) for i, level in enumerate(levels_of(graph), 1)]


def joined(found: list[Pace]) -> Iterator[Pace]:
    """Neighbours with the same pace as one."""
    for pace in list(dict.fromkeys((p.period, p.late) for p in found)):
        yield Pace(tuple(p.levels[0] for p in found if (p.period, p.late) == pace), *pace)


def loss_is_late(graph: LevelGraph) -> bool:
    """Whether the loss of a token is known one token later."""
    return graph.loss in graph.streams and graph.streams[graph.loss].lag == 1


def _pace(graph: LevelGraph, level: list[Member]) -> tuple[Period, int]:
    """The fastest of its members: among equals one that need not wait."""
    found = [_pace_of(graph, member) for member in level]
    period = fastest(p for p, _ in found)
    return period, min(late for p, late in found if p == period)


def _pace_of(graph: LevelGraph, member: Member) -> tuple[Period, int]:
    learns = [o for o in graph.objectives if member.id in o.memories or o.id == member.learn]
    period = member.period if member.period.count else fastest(o.every for o in learns)
    writers = [o for o in learns if o.every == period or o.id == member.learn]
    late = min((o.kind == "loss" and loss_is_late(graph) for o in writers), default=False)
    return period, int(late and period.unit == "token")
