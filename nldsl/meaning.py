"""What a level graph says, as one number: the same for texts that differ in comments, names of files and places."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from nldsl.graph import LevelGraph
from nldsl.spans import Span


def meaning(graph: LevelGraph) -> str:
    """A digest of everything a graph says, places in the text aside."""
    said: list[str] = []
    _say([(graph.program, graph.kind, graph.tick, tuple(graph.bodies.items()), graph.loss, graph.outs)], said)
    return hashlib.sha256("".join(said).encode()).hexdigest()


def _say(values: Iterable[Any], said: list[str]) -> None:
    for value in values:
        kind: type = type(value)
        if kind is str or kind is int:  # as most are
            said.append(f"{value!r},")
        elif kind is tuple or kind is list:
            said.append(f"[{len(value)} ")
            _say(value, said)
        elif (parts := _parts(kind)) is not None:
            said.append(f"({kind.__name__} ")
            _say(parts(value), said)
        elif kind is not Span:
            said.append(f"{value!r},")


@cache
def _parts(kind: type) -> Callable[[Any], Iterable[Any]] | None:
    """Reads what the values of a type are made of, None where they are one thing."""
    if not is_dataclass(kind) or kind is Span:
        return None
    first, second, *rest = [f.name for f in fields(kind)]
    return attrgetter(first, second, *rest)
