"""A report as text: tables of memories, writes and gates, and what is wrong with parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nldsl.compiler.doctor.report import FINE, SUM, GateLine, MemoryLine, Report

from nldsl.diagram.fold import Folding

Row = tuple[str, ...]
Table = tuple[Row, list[Row]]  # heads, rows
LONG = 1e6  # from here on a number is written with an exponent
LEFT = ("memory", "writes", "gate", "parameter", "verdict", "of")  # columns of words


def shown(report: Report, what: str, colour: bool = False) -> str:
    """The whole report. what: was read. colour: verdicts in green and red, for a terminal."""
    parts = [f"{report.program} read {_count(report.batch, 'sequence')} of {report.tokens:,} tokens of {what}"]
    tables = (_memories(report), _writers(report), _gates(report), _parameters(report))
    parts += [_aligned(heads, rows, colour) for heads, rows in tables if rows]
    if report.learned and not report.parameters and not report.other:
        parts.append(f"{_count(report.learned, 'parameter')}: each got a gradient in {report.steps} training steps")
    parts += report.other
    wrong = _count(report.wrong, "finding")
    parts.append(f"{report.program}: {'all fine' if not report.wrong else f'something is wrong: {wrong}'}")
    if any(line.fresh and line.sizes for line in report.memories):
        parts[1] += "\n* starts near zero: against a matrix [n, m] drawn by normal(n ^ -0.5)"
    return "\n\n".join(parts)


def _memories(report: Report) -> Table:
    marks = sorted({m for line in report.memories for m in line.sizes})
    sizes = [f"{'size at ' * (i == 0)}{m:,} " for i, m in enumerate(marks)]
    rows = [(line.memory, *(_size(line, m) for m in marks), _half_life(line), line.verdict) for line in report.memories]
    return ("memory", *sizes, "half-life", "verdict"), rows


def _size(line: MemoryLine, mark: int) -> str:
    if mark not in line.sizes:
        return "- "
    return _number(line.sizes[mark]) + ("*" if line.fresh else " ")


def _half_life(line: MemoryLine) -> str:
    if line.pairs:
        return f"{line.pairs:,} pairs"
    if line.horizon is None:
        return f"> {line.looked:,}" if line.looked else "-"
    return f"{line.horizon:,.0f}" if line.horizon >= 10 else f"{line.horizon:.1f}"


def _writers(report: Report) -> Table:
    rows: list[Row] = [
        (line.writer, f"{line.every:,}", f"{100 * line.share:.3g} %", line.verdict) for line in report.writers
    ]
    return ("writes", "period", "of all ticks", "verdict"), rows


def _gates(report: Report) -> Table:
    rows = [
        (f"{line.gate} in {', '.join(line.roles)}", *_spread(line), line.verdict, _served(line.memories))
        for line in report.gates
    ]
    return ("gate", "mean", "least", "most", "verdict", "of"), rows


def _spread(line: GateLine) -> Row:
    return tuple("-" if math.isnan(x) else _number(x) for x in (line.mean, line.least, line.most))


def _served(memories: Sequence[str]) -> str:
    first, *others = memories
    return f"{first} and {len(others)} more" if others else first


def _parameters(report: Report) -> Table:
    fold = Folding.of(line.parameter for line in report.parameters)
    rows: dict[Row, None] = dict.fromkeys((fold(line.parameter), line.verdict) for line in report.parameters)
    return ("parameter", "verdict"), list(rows)


def _number(x: float) -> str:
    return f"{x:,.0f}" if LONG > abs(x) >= 1000 else f"{x:.3g}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _aligned(heads: Row, rows: Sequence[Row], colour: bool) -> str:
    """Words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = [heads, tuple("-" * w for w in widths), *rows]
    return "\n".join(_line(heads, line, widths, colour and i > 1) for i, line in enumerate(lines))


def _line(heads: Row, line: Row, widths: Sequence[int], colour: bool) -> str:
    cells = []
    for head, cell, width in zip(heads, line, widths, strict=True):
        padded = cell.ljust(width) if head in LEFT else cell.rjust(width)
        if colour and head == "verdict":
            padded = f"\x1b[{'32' if cell in (FINE, SUM) else '1;31'}m{cell}\x1b[0m" + padded[len(cell) :]
        cells.append(padded)
    return "  ".join(cells).rstrip()
