"""Reads the lines that `nldsl.graph_text` writes: text -> records."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields
from fractions import Fraction
from typing import Any

from nldsl.graph import Body, Leaf, Memory, Objective, Period, Port, Rule, Stream
from nldsl.spans import Span

STEP = "  "
CLASSES: dict[str, type] = {c.__name__.lower(): c for c in (Body, Port, Memory, Stream, Objective, Rule, Leaf, Period)}
# The fields that are written as lines of their own, and what those lines may be.
CHILDREN: dict[type, dict[str, tuple[type, ...]]] = {
    Body: {"inputs": (Port,), "records": (Memory, Stream, Objective)},
    Memory: {"starts": (Body,)},
    Objective: {"bodies": (Body,)},
}
WORD = re.compile(r"[A-Za-z_%<][\w.%<>/-]*", re.ASCII)
NUMBER = re.compile(r"-?\d+(/\d+)?|-?(\d+\.\d+([eE][+-]?\d+)?|\d+[eE][+-]?\d+|inf|nan)", re.ASCII)
TEXT = r'"(?:[^"\\]|\\.)*"'
TOKEN = re.compile(rf'\s*(@(?:{TEXT}|[^\s":()]+):\d+:\d+-\d+:\d+|{TEXT}|[a-z]+\(|[()\[\],=]|[^\s()\[\],="@]+)')
SPAN = re.compile(r"@(.+):(\d+):(\d+)-(\d+):(\d+)", re.DOTALL)
CONSTANTS = {"true": True, "false": False, "none": None}
DEEPEST = 32


class Reader:
    """The lines of a text and the tokens of the line that is being read."""

    def __init__(self, text: str) -> None:
        self.rows = text.split("\n")
        while self.rows and not self.rows[-1].strip():
            self.rows.pop()
        self.number = 0
        self.tokens: list[str] = []

    def error(self, message: str) -> ValueError:
        return ValueError(f"line {min(self.number, len(self.rows))}: {message}")

    def next(self) -> str:
        """Go to the next line; an empty one behind the last."""
        self.number += 1
        row = self.rows[self.number - 1] if self.number <= len(self.rows) else ""
        at, self.tokens = 0, []
        while row[at:].strip():
            found = TOKEN.match(row, at)
            if found is None:
                raise self.error(f"`{row[at:].strip()[:30]}` can't be read")
            self.tokens.append(found[1])
            at = found.end()
        self.tokens.reverse()  # the next one is the last
        return row

    def indent(self) -> int:
        row = self.rows[self.number - 1] if self.number <= len(self.rows) else ""
        return len(row) - len(row.lstrip(" "))

    def word(self) -> str:
        return self.tokens.pop() if self.tokens else ""

    def expect(self, token: str) -> None:
        if (found := self.word()) != token:
            raise self.error(f"`{token}` belongs here, not `{found or 'the end of the line'}`")

    def facts(self) -> tuple[Any, ...]:
        self.next()
        self.expect("program")
        found = [self.value()]
        for name in ("kind", "loss"):
            self.expect(name)
            self.expect("=")
            found.append(self.value())
        self.end()
        if not all(isinstance(value, str) for value in found):
            raise self.error("a program's name, kind and loss are words")
        self.next()
        return tuple(found)

    def pair(self, kind: type = object) -> tuple[str, Any]:
        """A name and its value."""
        name, value = self.value(), self.value()
        self.end()
        if not isinstance(name, str) or not isinstance(value, kind):
            raise self.error("a name and its value belong here")
        return name, value

    def end(self) -> None:
        if self.tokens:
            raise self.error(f"`{self.tokens[-1]}` is too much here")

    def section(self, name: str) -> list[Any]:
        """The records below the line `name`, which has just been opened."""
        row = self.rows[self.number - 1] if self.number <= len(self.rows) else ""
        if row != name:
            raise self.error(f"the section `{name}` belongs here")
        self.next()
        return self.records(1)

    def records(self, depth: int) -> list[Any]:
        found = []
        if depth > DEEPEST:
            raise self.error("records are nested too deeply")
        while self.indent() == depth * len(STEP) and self.tokens:
            found.append(self.record(self.known(self.word()), depth))
        if self.indent() > depth * len(STEP):
            raise self.error("this line is indented too far")
        return found

    def known(self, name: str) -> type:
        if name not in CLASSES:
            raise self.error(f"there is no record `{name}`; there are {', '.join(CLASSES)}")
        return CLASSES[name]

    def record(self, kind: type, depth: int = 0) -> Any:
        """The record of this line; with a depth also what stands below it, and the next line is opened."""
        given = self.given(kind)
        self.end()
        if depth:
            line = self.number
            self.next()
            for child in self.records(depth + 1):
                places = CHILDREN.get(kind, {})
                name = next((n for n, kinds in places.items() if isinstance(child, kinds)), None)
                if name is None:
                    self.number = line
                    raise self.error(f"a {kind.__name__.lower()} holds no {type(child).__name__.lower()}")
                given[name] = (*given.get(name, ()), child)
        return self.made(kind, given)

    def given(self, kind: type, depth: int = 0) -> dict[str, Any]:
        """A record's fields, up to the end of the line or the bracket that closes it."""
        known = {f.name: f for f in fields(kind)}
        first = next(iter(known))
        found: dict[str, Any] = {first: self.checked(kind, known[first], self.value(depth))}
        while self.tokens and self.tokens[-1] != ")":
            if self.tokens[-1].startswith("@"):
                name, value = "span", self.value(depth)
            else:
                name = self.word()
                self.expect("=")
                value = self.value(depth)
            if name not in known or name in found:
                why = "twice here" if name in found else "no field of it"
                raise self.error(f"`{name}` of a {kind.__name__.lower()} is {why}")
            found[name] = self.checked(kind, known[name], value)
        return found

    def checked(self, kind: type, field: Field[Any], value: Any) -> Any:
        wanted = {"str": str, "int": int, "bool": bool, "Period": Period, "Span": Span, "Shape": tuple}.get(
            str(field.type), tuple if str(field.type).startswith("tuple") else object
        )
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise self.error(f"`{field.name}` of a {kind.__name__.lower()} can't be {value!r}")
        return value

    def made(self, kind: type, given: dict[str, Any]) -> Any:
        for field in fields(kind):
            if field.default is MISSING and field.name not in given:
                if field.name not in CHILDREN.get(kind, {}):
                    raise self.error(f"a {kind.__name__.lower()} needs `{field.name}`")
                given[field.name] = ()
        return kind(**given)

    def value(self, depth: int = 0) -> Any:
        """The next value of this line."""
        token = self.word()
        if depth > DEEPEST:
            raise self.error("values are nested too deeply")
        if token in ("(", "["):
            items = self.items({"(": ")", "[": "]"}[token], depth)
            return tuple(items) if token == "(" else items
        if token.endswith("(") and len(token) > 1:
            kind = self.known(token[:-1])
            made = self.made(kind, self.given(kind, depth + 1))
            self.expect(")")
            return made
        return self.atom(token)

    def items(self, closing: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while self.tokens and self.tokens[-1] != closing:
            if items:
                self.expect(",")
            items.append(self.value(depth + 1))
        self.expect(closing)
        return items

    def atom(self, token: str) -> Any:
        try:
            if found := SPAN.fullmatch(token):
                file = json.loads(found[1]) if found[1].startswith('"') else found[1]
                return Span(file, *map(int, found.groups()[1:]))
            if token.startswith('"'):
                return json.loads(token)
            if token in CONSTANTS:
                return CONSTANTS[token]
            if NUMBER.fullmatch(token):
                whole = re.fullmatch(r"-?\d+", token)
                return int(token) if whole else Fraction(token) if "/" in token else float(token)
        except (ValueError, ZeroDivisionError) as error:
            raise self.error(f"`{token[:30]}` can't be read: {error}") from error
        if not WORD.fullmatch(token):
            raise self.error(f"a value belongs here, not `{token or 'the end of the line'}`")
        return token
