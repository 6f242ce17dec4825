"""The checks, one module each. Those on names, arity and shapes run while a program is instantiated; the others, in
`ALL`, read the finished level graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nldsl.checks.clocks import check as clocks_fit
from nldsl.checks.future import check as no_future
from nldsl.checks.gradients import check as gradients_reach
from nldsl.checks.levels import check as levels_are_ordered
from nldsl.checks.unused import check as all_is_used
from nldsl.diagnostics import Diagnostic
from nldsl.graph import LevelGraph

Check = Callable[[LevelGraph, int | None], Iterable[Diagnostic]]

ALL: tuple[Check, ...] = (clocks_fit, no_future, levels_are_ordered, gradients_reach, all_is_used)
