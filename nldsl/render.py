"""Diagnostics as text for people (`render`) and as data for programs (`as_json`, `as_document`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nldsl.diagnostics import Diagnostic
from nldsl.spans import Span

FORMAT_VERSION = 1

NEAR = 6  # a second place at most this many lines away is shown in the same snippet
WIDEST = 160  # columns of a line that are shown; more is cut around what is underlined
TAB = "    "

RESET = "\x1b[0m"
BOLD = "\x1b[1m"
FRAME = "\x1b[1;34m"
COLORS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}


@dataclass(frozen=True, slots=True)
class Mark:
    """What is underlined: `^^^^ label` for the place itself, `---- label` for the second one."""

    span: Span
    label: str
    sign: str
    color: str


def render(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], color: bool = False) -> str:
    """The findings as a compiler prints them, in the order given, and a line that counts them.

    sources: the text of each file by the name its spans carry; a place in any other file is named and not shown.
    color: with ANSI codes. The result ends with a newline, and is empty where there is nothing to say.
    """
    found = list(diagnostics)
    if not found:
        return ""
    page = _Page(sources, color)
    return "\n".join([*(page.one(d) for d in found), count(found) + "\n"])


def count(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    severities = [d.severity for d in diagnostics]
    numbers = ((severities.count(name), name) for name in COLORS)
    return ", ".join(f"{n} {name}" if n == 1 else f"{n} {name}s" for n, name in numbers if n)


def as_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """One dictionary per finding. Lines and columns count from 1 in code points, the end is exclusive; they are null
    where a finding has no place."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            **_place(d.span, d.label),
            "second": _place(*d.second) if d.second else None,
            "values": [{"name": name, "value": value} for name, value in d.values],
            "alternatives": list(d.alternatives),
            "hint": d.hint,
        }
        for d in diagnostics
    ]


def as_document(diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
    """`as_json` with the version of its format, which changes when a key is renamed or removed."""
    return {"format_version": FORMAT_VERSION, "diagnostics": as_json(diagnostics)}


def _place(span: Span, label: str) -> dict[str, Any]:
    return {
        "file": span.file or None,
        "line": span.line or None,
        "column": span.column or None,
        "end_line": span.end_line or None,
        "end_column": span.end_column or None,
        "label": label,
    }


class _Page:
    def __init__(self, sources: Mapping[str, str], color: bool) -> None:
        self.lines = {file: [line.rstrip("\r") for line in text.split("\n")] for file, text in sources.items()}
        self.color = color

    def one(self, d: Diagnostic) -> str:
        color = COLORS.get(d.severity, BOLD)
        groups = _groups(d, color)
        last = max((mark.span.line for group in groups for mark in group), default=0)
        margin = " " * len(str(last)) if groups else ""
        rows = [self.paint(color, f"{d.severity}[{d.code}]") + self.paint(BOLD, f": {plain(d.message)}")]
        for arrow, group in zip(("-->", ":::"), groups, strict=False):
            rows.append(f"{margin}{self.paint(FRAME, arrow)} {group[0].span}")
            rows += self.snippet(group, margin)
        notes = [f"{margin} {self.paint(FRAME, '=')} {note}" for note in _notes(d)]
        if groups and notes:
            rows.append(self.bar(margin))
        return "\n".join([*rows, *notes]) + "\n"

    def snippet(self, marks: Sequence[Mark], margin: str) -> list[str]:
        """The marked lines, each with its underlines. A gap of one line is shown, a longer one is `...`."""
        lines = self.lines.get(marks[0].span.file, [])
        marks = [m for m in marks if m.span.line <= len(lines)]
        rows = [self.bar(margin)] if marks else []
        before = 0
        for number in sorted({m.span.line for m in marks}):
            if before and number - before == 2:
                rows.append(self.source(before + 1, cut(lines[before], 0, 0)[0], margin))
            elif before and number - before > 2:
                rows.append(self.paint(FRAME, "..."))
            rows += self.marked(lines[number - 1], [m for m in marks if m.span.line == number], margin)
            before = number
        return rows

    def marked(self, line: str, marks: Sequence[Mark], margin: str) -> list[str]:
        first = marks[0].span  # the place itself, where both stand in one line
        shown, shift = cut(line, *_columns(line, first))
        rows = [self.source(first.line, shown, margin)]
        for mark in marks:
            start, end = (min(max(column - shift, 0), width(shown)) for column in _columns(line, mark.span))
            under = mark.sign * max(end - start, 1) + (f" {plain(mark.label)}" if mark.label else "")
            rows.append(f"{self.bar(margin)} {' ' * start}{self.paint(mark.color, under)}")
        return rows

    def source(self, number: int, shown: str, margin: str) -> str:
        return f"{self.paint(FRAME, f'{number:>{len(margin)}} |')} {shown}".rstrip()

    def bar(self, margin: str) -> str:
        return self.paint(FRAME, f"{margin} |")

    def paint(self, color: str, text: str) -> str:
        return f"{color}{text}{RESET}" if self.color and text else text


def _groups(d: Diagnostic, color: str) -> list[list[Mark]]:
    """What stands together in one snippet, the place itself first."""
    marks = [Mark(d.span, d.label, "^", color)]
    if d.second:
        marks.append(Mark(*d.second, "-", FRAME))
    marks = [m for m in marks if m.span.file and m.span.line > 0]
    if len(marks) == 2:
        one, two = (m.span for m in marks)
        if one.file != two.file or abs(one.line - two.line) > NEAR:
            return [[m] for m in marks]
    return [marks] if marks else []


def _notes(d: Diagnostic) -> list[str]:
    notes = []
    if d.values:
        notes.append("where: " + ", ".join(f"{name} = {value}" for name, value in d.values))
    if d.alternatives:
        notes.append("legal: " + ", ".join(a if "`" in a else f"`{a}`" for a in d.alternatives))
    if d.hint:
        notes.append(f"help: {d.hint}")
    return [plain(note) for note in notes]


def _columns(line: str, span: Span) -> tuple[int, int]:
    """Where an underline begins and ends on the screen; a span of several lines is underlined on its first."""
    end = span.end_column - 1 if span.end_line == span.line else len(line.rstrip())
    start = span.column - 1
    return width(plain(line[:start])), width(plain(line[: max(end, start)]))


def plain(text: str) -> str:
    """`text` as it may go to a terminal: tabs as four blanks, and nothing that moves the cursor or turns the
    direction of writing."""
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\t", TAB)
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)


def width(text: str) -> int:
    """How many columns of a terminal `text` takes: two for a wide character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(_width(c) for c in text)


def _width(c: str) -> int:
    if unicodedata.category(c) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def cut(line: str, start: int, end: int) -> tuple[str, int]:
    """What is shown of a line, and by how many columns it is moved to the left. A line of more than `WIDEST` columns
    is cut to that many around columns `start` to `end`."""
    shown = plain(line)
    if width(shown) <= WIDEST:
        return shown, 0
    middle = min((start + end) // 2, start + WIDEST // 3)
    left = max(0, min(middle - WIDEST // 2, width(shown) - WIDEST))
    kept, column, shift = "", 0, 0
    for c in shown:
        if column < left:
            shift = column + _width(c)
        elif column < left + WIDEST:
            kept += c
        column += _width(c)
    if left > 0:
        kept, shift = "…" + kept, shift - 1
    return kept + ("…" if column > left + WIDEST else ""), shift
