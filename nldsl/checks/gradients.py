"""Every parameter is learned, once, and its loss reaches it; else the edge that cuts the gradient is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from nldsl.checks.contract import Row, claims, contract, owners
from nldsl.checks.reach import Cut
from nldsl.checks.unused import unread
from nldsl.diagnostics import Diagnostic
from nldsl.graph import LevelGraph
from nldsl.spans import NOWHERE, Span

__all__ = ["Row", "check", "contract"]


def check(graph: LevelGraph, length: int | None) -> Iterator[Diagnostic]:
    rows = [r for r in contract(graph) if r.role != "fixed start"]
    if graph.kind == "model":
        yield from _unlearned(graph, [r for r in rows if not r.learned_by])
    yield from _twice(graph, {r.memory for r in rows})
    warned = unread(graph)  # a learn that nothing reads has a warning of its own
    dead = [r for r in rows if not r.reached and (r.learned_by or graph.kind == "block")]
    yield from _unreached(r for r in dead if warned.isdisjoint(owners(r.memory)))


def _listed(names: list[str], limit: int = 2) -> str:
    shown = " and ".join(f"`{n}`" for n in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _grouped(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows with one place in the text and one reason: the copies of a `repeat`, the weights of a net."""
    groups: dict[tuple[Span, Cut | None, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.span, row.cut, row.loss), []).append(row)
    yield from groups.values()


def _unlearned(graph: LevelGraph, rows: list[Row]) -> Iterator[Diagnostic]:
    hint = "`learn * minimizing loss by adamw(1e-3) every step` learns what nothing else claims"
    plain = [replace(r, loss="", cut=None) for r in rows]
    for group in _grouped(plain) if claims(graph) else [plain] if plain else []:
        yield Diagnostic("NL701", f"nothing learns {_listed([r.parameter for r in group])}", group[0].span, hint=hint)


def _twice(graph: LevelGraph, known: set[str]) -> Iterator[Diagnostic]:
    said: set[tuple[Span, Span]] = set()
    for memory, learns in claims(graph).items():
        if len(learns) > 1 and memory in known and (learns[0].span, learns[1].span) not in said:
            said.add((learns[0].span, learns[1].span))
            yield Diagnostic("NL703", f"`{memory}` is learned by two learns of the step clock", learns[1].span,
                             second=(learns[0].span, "the first"),
                             hint="add up what they minimise in one learn, or name different memories")  # fmt: skip
    stars = [o for o in graph.objectives if o.every.unit == "step" and ".learn *" in f".{o.id}"]
    for second in stars[1:]:
        if not second.memories:
            yield Diagnostic("NL703", "the first `learn *` takes every parameter that is not claimed by name, and this "
                             "one would learn them twice", second.span, second=(stars[0].span, "the first"),
                             hint="remove one, or name what it learns: `learn M …`")  # fmt: skip


def _unreached(rows: Iterable[Row]) -> Iterator[Diagnostic]:
    for group in _grouped(rows):
        row, cut = group[0], group[0].cut or Cut("no gradient passes")
        names = _listed([r.parameter for r in group])
        second = (cut.span, "here") if cut.span not in (NOWHERE, row.span) else None
        yield Diagnostic("NL702", f"no gradient of {row.loss} reaches {names}: {cut.what}", row.span,
                         second=second, hint=_way_out(cut))  # fmt: skip


def _way_out(cut: Cut) -> str:
    if "detached" in cut.what:
        return "remove `detached`, or read it where a gradient passes too"
    if "never" in cut.what or "nothing reads" in cut.what:
        return "use it, or remove it"
    return "take it out, or give this parameter another way to the loss"
