"""What a level graph says, as one number: the same for texts that differ in comments, names of files and places."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from nldsl.graph import LevelGraph
from nldsl.spans import Span


def meaning(graph: LevelGraph) -> str:
    """A digest of everything a graph says, places in the text aside."""
    said: list[str] = []
    _say((graph.program, graph.kind, graph.tick, tuple(graph.bodies.items()), graph.loss, graph.outs), said)
    return hashlib.sha256("".join(said).encode()).hexdigest()


def _say(value: Any, said: list[str]) -> None:
    kind: type = type(value)
    names = _fields(kind)
    if names is not None:
        said.append(f"({kind.__name__} ")
        for name in names:
            _say(getattr(value, name), said)
    elif isinstance(value, tuple | list):
        said.append(f"[{len(value)} ")
        for item in value:
            _say(item, said)
    elif kind is not Span:
        said.append(f"{value!r},")


@cache
def _fields(kind: Hashable) -> tuple[str, ...] | None:
    """What the values of a type are made of, None where they are one thing."""
    if not isinstance(kind, type) or not is_dataclass(kind) or kind is Span:
        return None
    return tuple(f.name for f in fields(kind))
