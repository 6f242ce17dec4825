"""Whether a program reads text as bytes: what `run`, `train` and their kin ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.commands.common import Failure
from nldsl.vocabulary import vocabularies

if TYPE_CHECKING:
    from nldsl.graph import LevelGraph, Port

BYTES = 256


def fit(graph: LevelGraph, command: str) -> None:
    """Ends the command if the program does not read bytes and say how well."""
    ports = graph.tick.inputs
    such = "a model over one `int` stream, such as `model M(vocab = 256) over ids: int`"
    need = f"`{command}` reads text, so it needs {such}"
    if len(ports) != 1 or ports[0].dtype != "int" or ports[0].shape:
        shown = ", ".join(f"`{_shown(p)}`" for p in ports) or "nothing"
        raise Failure(f"`{graph.program}` is over {shown}; {need}")
    if not graph.loss:
        raise Failure(f"`{graph.program}` has no `loss`; {need} that assigns one")
    size = vocabulary(graph)
    if size < BYTES:
        raise Failure(f"`{graph.program}` knows {size} tokens, and there are {BYTES} bytes: too few")


def _shown(port: Port) -> str:
    return f"{port.id}: int" if port.dtype == "int" else f"{port.id}: {[int(d) for d in port.shape]}"


def vocabulary(graph: LevelGraph) -> int:
    """The least number of different tokens that the program can take in or predict, 256 at most."""
    return min(BYTES, vocabularies(graph).get(graph.tick.inputs[0].id, BYTES))
