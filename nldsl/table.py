"""The levels of a program as a table: what learns at which pace, how much it keeps and what it learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from nldsl.clocks import shown
from nldsl.diagram.fold import Folding
from nldsl.graph import LevelGraph, Period
from nldsl.level_facts import NONE, facts_of
from nldsl.levels import feeding, layers

HEADS = ("level", "period", "members", "parameters", "state per sequence", "fed by", "reads", "gradient reaches")
RIGHT = ("level", "parameters", "state per sequence")
WIDEST = 60  # columns of a member's name


@dataclass(frozen=True, slots=True)
class LevelRow:
    """One level (rule 18).

    number: 1 for the fastest. name: declared by `level NAME = …`, or empty. members: its memories, and the states
    inside optimizers (`learn M momentum.s`), repeated layers folded: `layers.*.cms.F_16 x12`; `learn * starts` are the
    starts, learned by training steps, of what faster levels write. parameters: learned numbers in its memories, those
    of a start counted with the memory that starts from it. state: numbers kept per sequence; grows: those that every
    token adds; shared: numbers that optimizers of training steps keep, once for all sequences. fed_by: inner levels
    whose values its writes use after those levels' own writes of the tick; reads: other levels whose values its writes
    use. reach: how far back its gradient goes.
    """

    number: int
    period: Period
    name: str
    members: tuple[str, ...]
    parameters: int
    state: int
    grows: int
    shared: int
    fed_by: tuple[int, ...]
    reads: tuple[int, ...]
    reach: str


@dataclass(frozen=True, slots=True)
class LevelTable:
    """The levels of a program, fastest first. `str` is an aligned table in plain text."""

    program: str
    rows: tuple[LevelRow, ...]

    def __iter__(self) -> Iterator[LevelRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LevelRow:
        return self.rows[index]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows as plain data; a period is its text."""
        return [asdict(row) | {"period": shown(row.period)} for row in self.rows]

    def __str__(self) -> str:
        cells = [[[head] for head in HEADS], *(_cells(row) for row in self.rows)]
        return "\n".join([*aligned(cells, RIGHT), "", self.summary()])

    def summary(self) -> str:
        """`6 levels, 97,841,664 parameters, 1,024 numbers of state per sequence`."""
        state = sum(row.state for row in self.rows)
        grows = sum(row.grows for row in self.rows)
        parts = [_several(len(self.rows), "level"), _several(sum(row.parameters for row in self.rows), "parameter")]
        parts.append(f"{_several(state, 'number')} of state per sequence")
        if grows:
            parts[-1] += f" and {grows:,} per token"
        return f"{self.program}: {', '.join(parts)}"


def level_table(graph: LevelGraph) -> LevelTable:
    """The level table of a graph."""
    found = feeding(graph.tick, graph.bodies, graph.loss)
    levels = layers(found)[0]
    facts = facts_of(graph, found)
    number = {member.id: i for i, level in enumerate(levels, 1) for member in level}
    declared = {period: name for name, period in reversed(graph.level_names)}
    fold = Folding.of(number)
    rows = []
    for i, level in enumerate(levels, 1):
        own = [facts[member.id] for member in level]
        fed = {number[a] for a, b in found.edges if number.get(b) == i and number.get(a, i) < i}
        reads = {number[m] for f in own for m in f.reads if m in number} - fed - {i}
        reach = dict.fromkeys(f.reach for f in own)
        rows.append(
            LevelRow(
                number=i,
                period=level[0].period,
                name=declared.get(level[0].period, ""),
                members=_folded((member.id for member in level), fold),
                parameters=sum(f.parameters for f in own),
                state=sum(f.state for f in own),
                grows=sum(f.grows for f in own),
                shared=sum(f.shared for f in own),
                fed_by=tuple(sorted(fed)),
                reads=tuple(sorted(reads)),
                reach=", ".join(r for r in reach if r != NONE) or NONE,
            )
        )
    return LevelTable(graph.program, tuple(rows))


def _folded(names: Iterable[str], fold: Folding) -> tuple[str, ...]:
    counts = Counter(fold(name) for name in names)
    return tuple(f"{name} x{count}" if "*." in name and count > 1 else name for name, count in counts.items())


# As text


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _cells(row: LevelRow) -> list[list[str]]:
    state = [f"{row.state:,}"] if row.state or not (row.grows or row.shared) else []
    state += [f"grows by {row.grows:,} per token"] if row.grows else []
    state += [f"{row.shared:,} shared"] if row.shared else []
    period = [shown(row.period), *([f"({row.name})"] if row.name else [])]
    members = [m if len(m) <= WIDEST else f"…{m[-WIDEST + 1 :]}" for m in row.members]
    return [
        [str(row.number)], period, members, [f"{row.parameters:,}"], state, [_ranges(row.fed_by)], [_ranges(row.reads)],
        [row.reach],
    ]  # fmt: skip


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3, 5`; `-` where there are none."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    texts = (f"{p[0]}-{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)
    return ", ".join(texts) or "-"


def aligned(cells: list[list[list[str]]], right: Sequence[str] = ()) -> Iterator[str]:
    """The lines of a table: the first row is its heads, a cell is a list of lines. right: heads of the columns that end
    in line, such as those of numbers."""
    heads = [lines[0] for lines in cells[0]]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(heads))]
    for n, row in enumerate(cells):
        for lines in zip_longest(*row, fillvalue=""):
            padded = (
                text.rjust(width) if head in right else text.ljust(width)
                for head, text, width in zip(heads, lines, widths, strict=True)
            )
            yield "  ".join(padded).rstrip()
        if n == 0:
            yield "  ".join("-" * width for width in widths)
