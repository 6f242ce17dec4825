"""What an examination found, as plain numbers and sentences."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

FINE = "fine"
SUM = "fine: a sum of all it read"


@dataclass(frozen=True)
class Line:
    """What all lines have. verdict: fine, or what is wrong and the way out."""

    verdict: str = field(default=FINE, kw_only=True)


@dataclass(frozen=True)
class MemoryLine(Line):
    """sizes: tokens read -> the median size over sequences and heads, against the memory's start, or where `fresh`
    against a freshly drawn matrix; none for attention, which has `pairs` instead. horizon: tokens until half of a
    change is gone, None where it was not seen within `looked`, which is 0 where none was looked for."""

    memory: str
    sizes: dict[int, float]
    fresh: bool
    pairs: int
    horizon: float | None
    looked: int


@dataclass(frozen=True)
class WriterLine(Line):
    """share: of the ticks, over sequences, heads and memories, at which it writes."""

    writer: str
    every: int
    share: float


@dataclass(frozen=True)
class GateLine(Line):
    """Over the ticks, sequences and heads that use it; not numbers where it is never used."""

    gate: str
    roles: tuple[str, ...]
    memories: tuple[str, ...]
    mean: float
    least: float
    most: float


@dataclass(frozen=True)
class ParameterLine(Line):
    parameter: str


@dataclass(frozen=True)
class Report:
    """tokens: read of each of `batch` sequences. other: what is wrong besides the lines. learned: how many parameters a
    learn on the step clock teaches; `parameters` has those with something wrong. steps, length: of the training."""

    program: str
    tokens: int
    batch: int
    memories: tuple[MemoryLine, ...]
    writers: tuple[WriterLine, ...]
    gates: tuple[GateLine, ...]
    parameters: tuple[ParameterLine, ...]
    learned: int
    steps: int
    length: int
    other: tuple[str, ...] = ()

    @property
    def wrong(self) -> int:
        """How many lines say that something is wrong."""
        lines: list[Line] = [*self.memories, *self.writers, *self.gates, *self.parameters]
        return len(self.other) + sum(line.verdict not in (FINE, SUM) for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """As data for JSON; what is no number is None."""
        found: dict[str, Any] = _plain(asdict(self) | {"fine": not self.wrong})
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(n): _plain(v) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
