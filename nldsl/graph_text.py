"""A level graph as text that people can read and `read_graph` reads back to an equal graph.

    nldsl graph 1
    program Hope kind=model loss=%1529
    hyper dim 512                                           one line per hyper-parameter, declared level and result
    out out0 direction=out shape=(256) stream=%1526 @hope.nl:39:1-49:2
    tick
      body Hope results=(%1526)
        port ids direction=in dtype=int @hope.nl:39:101-39:109
        memory x.embed form=weights heads=0 leaves=(leaf(w shape=(256, 512) init=(normal, 1/50))) @…
        stream %1 op=weight …
        objective "learn *" kind=loss …
    rules                                                   the bodies of optimizers and retentions, by name
      body gd.1 results=(%1)

A record is its class, its first field, and `field=value` for every other field that is not at its default; what it
contains, bodies and the records of bodies, stands indented below it. Values: 3, 9/10, 0.5, true, none, text (quoted
where it is not a plain word), (tuples), [lists], records in one line `period(16 unit=step)`, and spans
`@file:line:column-line:column`. Nodes, edges, clocks and levels follow from the records and are not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from typing import Any

from nldsl.graph import Body, LevelGraph, Period, Port
from nldsl.graph_reader import CHILDREN, CONSTANTS, NUMBER, WORD, Reader
from nldsl.network import level_graph
from nldsl.spans import NOWHERE, Span

HEAD = "nldsl graph 1"
STEP = "  "


# Graph -> text


def show_graph(graph: LevelGraph) -> str:
    """The text of a graph; ends with a newline."""
    lines = [HEAD, f"program {_value(graph.program)} kind={_value(graph.kind)} loss={_value(graph.loss)}"]
    lines += [f"hyper {_value(name)} {_value(value)}" for name, value in graph.hyper]
    lines += [f"level {_value(name)} {_value(period)}" for name, period in graph.level_names]
    lines += ["out " + _line(port).removeprefix("port ") for port in graph.outs]
    lines += ["tick", *_lines(graph.tick, 1), "rules"]
    for body in graph.bodies.values():
        lines += _lines(body, 1)
    return "\n".join(lines) + "\n"


def _lines(record: Any, depth: int) -> Iterator[str]:
    yield STEP * depth + _line(record)
    for name in CHILDREN.get(type(record), ()):
        for child in getattr(record, name):
            yield from _lines(child, depth + 1)


def _line(record: Any) -> str:
    return " ".join((type(record).__name__.lower(), *_fields(record)))


def _fields(record: Any) -> Iterator[str]:
    first, *others = fields(record)
    yield _value(getattr(record, first.name))
    for f in others:
        value = getattr(record, f.name)
        if f.name not in CHILDREN.get(type(record), ()) and f.name != "span" and not _same(value, f.default):
            yield f"{f.name}={_value(value)}"
    if getattr(record, "span", NOWHERE) != NOWHERE:
        yield _value(record.span)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _value(value: Any) -> str:
    match value:
        case None | bool():
            return str(value).lower()
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case int():
            return str(int(value))
        case float():
            return repr(value)
        case str():
            word = WORD.fullmatch(value) and value not in CONSTANTS and not NUMBER.fullmatch(value)
            return value if word else json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"({', '.join(map(_value, value))})"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case Span():
            plain = re.fullmatch(r'[^\s":()@]+', value.file)
            file = value.file if plain else json.dumps(value.file, ensure_ascii=False)
            return f"@{file}:{value.line}:{value.column}-{value.end_line}:{value.end_column}"
    return f"{type(value).__name__.lower()}({' '.join(_fields(value))})"


# Text -> graph


def read_graph(text: str) -> LevelGraph:
    """The graph of a text that `show_graph` wrote. Raises ValueError, with the line, for any other text."""
    lines = Reader(text)
    if lines.next() != HEAD:
        raise lines.error(f"a graph's text begins with `{HEAD}`")
    facts = lines.facts()
    parts: dict[str, list[Any]] = {"hyper": [], "level": [], "out": []}
    kinds = {"hyper": object, "level": Period}
    while (section := lines.word()) in parts:
        parts[section].append(lines.record(Port) if section == "out" else lines.pair(kinds[section]))
        lines.next()
    tick = lines.section("tick")
    rules = lines.section("rules")
    if lines.number <= len(lines.rows) or len(tick) != 1 or not all(isinstance(b, Body) for b in (*tick, *rules)):
        raise lines.error("one body belongs to `tick`, and bodies belong to `rules`")
    bodies = {body.name: body for body in rules}
    try:
        return level_graph(facts[0], facts[1], parts["hyper"], tick[0], bodies, facts[2], parts["out"], parts["level"])
    except Exception as error:
        raise ValueError(f"the records of this text make no graph: {type(error).__name__}: {error}") from error
