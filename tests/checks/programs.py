"""Small programs and what is found in them."""

from __future__ import annotations

from typing import Any

from nldsl.diagnostics import Diagnostic
from nldsl.graph import LevelGraph
from nldsl.program import front_end


def found(text: str, name: str = "", length: int | None = None, **hyper: Any) -> list[Diagnostic]:
    return front_end(f"<text>:{name}" if name else "<text>", hyper, text, length).findings.sorted()


def codes(text: str, name: str = "", length: int | None = None, **hyper: Any) -> list[str]:
    return [d.code for d in found(text, name, length, **hyper)]


def built(text: str, name: str = "", **hyper: Any) -> LevelGraph:
    """The graph, whatever the graph checks say of it."""
    graph = front_end(f"<text>:{name}" if name else "<text>", hyper, text).graph
    assert graph is not None, [str(d) for d in found(text, name, **hyper)]
    return graph


def block(*lines: str) -> str:
    return "block B over x: [4] -> [4] {\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"


def model(*lines: str, over: str = "x: [4]") -> str:
    return f"model A over {over} {{\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"
