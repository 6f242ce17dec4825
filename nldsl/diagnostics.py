"""Diagnostics are data: made where something is wrong, rendered once (`nldsl.render`)."""

from __future__ import annotations

import re
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


# What is said about a name, and what else the same mistake leads to at the same place.
_OF_NAMES = {
    code: {"NL101", "NL107", "NL108", "NL110"} for code in ("NL101", "NL102", "NL108", "NL501")
}  # fmt: skip


@dataclass
class Findings:
    """Collects diagnostics, each once, so that one run reports everything it can.

    The copies that `repeat` makes have one place in the text, and are one finding. So have a name that means nothing
    and what instantiation, which can't know why, says of it.
    """

    items: list[Diagnostic] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)  # also those that were said before: they stop the build too
    _said: set[tuple[object, ...]] = field(default_factory=set, repr=False)

    def add(self, diagnostic: Diagnostic) -> None:
        code, span = diagnostic.code, diagnostic.span
        if diagnostic.severity == "error":
            self.errors.append(diagnostic)
        text = re.sub(r"\.\d+(?=[.`])", ".#", diagnostic.message)
        key: tuple[object, ...] = (code, span, text)
        if code == "NL112":
            key = (code, frozenset(text.split()))
        if key in self._said or (code, span) in self._said:
            return
        self._said.add(key)
        self._said.update((c, span) for c in _OF_NAMES.get(code, ()) if span != NOWHERE)
        self.items.append(diagnostic)

    def known(self, span: Span) -> None:
        """What is wrong with the name at this place has been said elsewhere."""
        self._said.update((code, span) for code in _OF_NAMES["NL101"])

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def sorted(self) -> list[Diagnostic]:
        return sorted(self.items, key=lambda d: (d.span, d.code))

    def raise_errors(self) -> None:
        if self.errors:
            raise ProgramError(self.sorted())


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`did you mean …?` for a misspelt name, or an empty string."""
    import difflib  # only what is wrong needs it

    lowered = {c.lower(): c for c in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean `{lowered[close[0]]}`?" if close else ""
