"""The checks, one module each. Those on names, arity and shapes run while a program is instantiated; the others, in
`ALL`, read the finished level graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nldsl.diagnostics import Diagnostic
from nldsl.graph import LevelGraph

Check = Callable[[LevelGraph, int | None], Iterable[Diagnostic]]

ALL: tuple[Check, ...] = ()
