"""Diagnostics are data: made where something is wrong, rendered once (`nldsl.render`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from nldsl.spans import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    code: a row of `nldsl.codes`. message: one sentence, the user's names in backticks. span: what to
    underline, `label` beside it. second: another place, with its label. values: what the names in the
    message are worth. alternatives: what would be legal. hint: the way out.
    """

    code: str
    message: str
    span: Span = NOWHERE
    label: str = ""
    second: tuple[Span, str] | None = None
    values: tuple[tuple[str, str], ...] = ()
    alternatives: tuple[str, ...] = ()
    hint: str = ""
    severity: str = "error"  # error, warning, note


class ProgramError(Exception):
    """The program is wrong; `diagnostics` says where and why."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(f"{d.span}: {d.message} [{d.code}]" for d in self.diagnostics))


@dataclass
class Findings:
    """Collects diagnostics, each once, so that one run reports everything it can."""

    items: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self.items:
            self.items.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "error"]

    def sorted(self) -> list[Diagnostic]:
        return sorted(self.items, key=lambda d: (d.span, d.code))

    def raise_errors(self) -> None:
        if self.errors:
            raise ProgramError(self.sorted())


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`did you mean …?` for a misspelt name, or an empty string."""
    lowered = {c.lower(): c for c in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean `{lowered[close[0]]}`?" if close else ""
