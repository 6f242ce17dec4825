"""What a level graph says, as one number: the same for texts that differ in comments, names of files and places."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

from nldsl.graph import LevelGraph
from nldsl.spans import Span


def meaning(graph: LevelGraph) -> str:
    """A digest of everything a graph says, places in the text aside."""
    facts = (graph.program, graph.kind, graph.tick, tuple(graph.bodies.items()), graph.loss, graph.outs)
    digest = hashlib.sha256()
    _digest(facts, digest)
    return digest.hexdigest()


def _digest(value: Any, digest: Any) -> None:
    if isinstance(value, Span):
        return
    if is_dataclass(value):
        digest.update(f"({type(value).__name__} ".encode())
        for field in fields(value):
            _digest(getattr(value, field.name), digest)
    elif isinstance(value, tuple | list):
        digest.update(f"[{len(value)} ".encode())
        for item in value:
            _digest(item, digest)
    else:
        digest.update(f"{value!r},".encode())
