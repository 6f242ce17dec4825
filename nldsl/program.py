"""The driver: a program's name and its hyper-parameters -> a checked level graph. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from nldsl.checks import ALL, names
from nldsl.collecting import uncollected
from nldsl.diagnostics import Diagnostic, Findings, nearest
from nldsl.graph import LevelGraph
from nldsl.instantiate.instance import instantiate
from nldsl.instantiate.values import Function
from nldsl.modules import Linker, ModuleScope, library
from nldsl.network import level_graph
from nldsl.syntax import tree

# With these, a name may mean nothing, or a definition may never end: there is no use in going on.
UNLINKED = ("NL103", "NL104", "NL105", "NL106", "NL112")


@dataclass
class Result:
    """A program after the front end: its graph, if one could be built, and everything found on the way."""

    graph: LevelGraph | None
    findings: Findings
    sources: dict[str, str] = field(default_factory=dict)
    module: ModuleScope | None = None


@uncollected()
def front_end(
    program: str,
    hyper: Mapping[str, Any] | None = None,
    text: str | None = None,
    length: int | None = None,
    rounds: int = 0,
) -> Result:
    """`FILE.nl`, `FILE.nl:Name` or `std.hope:Hope` -> Result. With `text`, that text instead of a file's.
    length: how many ticks a run will have, for the levels that could not fire. rounds: the most rounds of a `repeat`,
    0 for as many as the text says."""
    findings = Findings()
    linker = Linker(findings)
    place, _, name = split(program)
    module = _open(place, text, linker)  #                           text -> Tree, imports
    if module is None:
        return Result(None, findings, linker.sources)
    names.check(module, findings)  #                                 every name of the text
    function = entry(module, name, findings)
    if function is None or any(d.code < "NL100" or d.code in UNLINKED for d in findings.errors):
        return Result(None, findings, linker.sources, module)
    made = instantiate(function, _exact(hyper or {}), findings, rounds)  #   Tree + sizes -> records
    if made is None or made.broken:
        return Result(None, findings, linker.sources, module)
    graph = level_graph(  #                                          records -> LevelGraph
        made.name, made.kind, made.hyper, made.tick, made.bodies, made.loss, made.outs, made.levels
    )
    for check in ALL:  #                                             LevelGraph -> findings
        findings.extend(check(graph, length))
    return Result(graph, findings, linker.sources, module)


def split(program: str) -> tuple[str, str, str]:
    """`FILE.nl:Name` -> (`FILE.nl`, `:`, `Name`)."""
    place, colon, name = program.rpartition(":")
    return (place, colon, name) if colon and name.isidentifier() else (program, "", "")


def _open(place: str, text: str | None, linker: Linker) -> ModuleScope | None:
    if text is not None:
        return linker.link(text, place, Path(place))
    return linker.file(path_of(place))


def function_of(program: str, findings: Findings, text: str | None = None) -> Function | None:
    """The definition that a program's name means, before anything of it is built."""
    place, _, name = split(program)
    module = _open(place, text, Linker(findings))
    return entry(module, name, findings) if module is not None else None


def path_of(place: str) -> Path:
    """Where `FILE.nl` or `std.hope` lies."""
    path = Path(place)
    if place.startswith("std.") and path.suffix != ".nl":
        return library().joinpath(*place.split(".")[1:]).with_suffix(".nl")
    return path


def entry(module: ModuleScope, name: str, findings: Findings) -> Function | None:
    """The definition a program's name means: by default the last model, or else the last block that needs nothing."""
    whole = {n: d for n, d in module.definitions.items() if d.kind in ("model", "block")}
    if name:
        if name in whole:
            return Function(whole[name], module)
        found = module.definitions.get(name)
        why = (
            f"`{name}` is {'an' if found and found.kind[0] in 'aeiou' else 'a'} {found.kind}"
            if found
            else (f"`{module.file}` defines no `{name}`")
        )
        findings.add(
            Diagnostic(
                "NL109",
                f"{why}; a program is a model or a block",
                found.name.span if found else module.module.span,
                hint=nearest(name, whole),
                alternatives=tuple(f"`{n}`" for n in whole),
            )
        )
        return None
    models = [d for d in whole.values() if d.kind == "model"]
    ready = [d for d in whole.values() if all(p.default is not None for p in d.parameters)]
    chosen = models[-1] if models else ready[-1] if ready else None
    return Function(chosen, module) if chosen is not None else None


def _exact(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Decimals given from Python mean what they show: 0.9 is 9/10, as in a text."""
    return {n: _number(v) for n, v in hyper.items()}


def _number(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_number(v) for v in value]
    if isinstance(value, float):
        exact = Fraction(repr(value)) if value == value and abs(value) != float("inf") else value
        return int(exact) if isinstance(exact, Fraction) and exact.denominator == 1 else exact
    return value


def default_name(module: tree.Module) -> str:
    models = [d.name.id for d in module.definitions if d.kind == "model"]
    return models[-1] if models else ""
