"""`nldsl check`: diagnostics of programs, and what was checked where there are none."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import click

from nldsl.collecting import uncollected
from nldsl.commands.common import WRONG, entered, rendered, set_option

EPILOG = """\b
Examples:
  nldsl check hope.nl                        every model in the file
  nldsl check hope.nl:Hope --set dim=64      one program, with another size
  nldsl check *.nl --strict                  warnings count as errors
  nldsl check hope.nl --length 1024          would every level write within 1024 tokens?
  nldsl check hope.nl --json                 for editors and scripts

\b
Exit codes: 0 fine, 1 something is wrong, 2 usage, 70 a bug in nldsl.
"""


@dataclass(frozen=True)
class Checked:
    """One program, or a file that has none: `program` is empty then."""

    place: str
    program: str
    fine: bool
    parameters: int = 0
    levels: int = 0
    definitions: int = 0

    def __str__(self) -> str:
        if not self.program:
            return f"{self.place}: fine: {self.definitions} definition{'s' * (self.definitions != 1)}, no program"
        several = "s" * (self.levels != 1)
        return f"{self.place}: {self.program} is fine: {self.levels} level{several}, {self.parameters:,} parameters"


@click.command("check", epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="PROGRAM...")
@click.option("--json", "as_json", is_flag=True, help="Diagnostics as JSON on standard output.")
@click.option("--strict", is_flag=True, help="Warnings end with code 1 too.")
@click.option("--length", type=click.IntRange(min=1), metavar="N", help="How many tokens a run will have.")
@set_option
@uncollected()
def command(files: tuple[str, ...], as_json: bool, strict: bool, length: int | None, hyper: dict[str, Any]) -> None:
    """Say whether programs are right.

    Checks names, arguments, shapes, clocks, the future, levels and gradients, and reports everything it finds in one
    run. Of a file without `:Name` every model is checked; with --set its default program.
    """
    from nldsl.diagnostics import Diagnostic

    every: list[Diagnostic] = []
    programs: list[Checked] = []
    for file in files:
        found, sources, checked = _file(file, hyper, length)
        programs += checked
        every += found
        if as_json:
            continue
        if found:
            click.echo(rendered(found, sources, sys.stdout))
        for one in checked:
            if one.fine:
                click.echo(str(one))
    if as_json:
        import json

        from nldsl.render import as_document

        document = as_document(every) | {"programs": [vars(one) for one in programs]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    severities = {d.severity for d in every}
    if "error" in severities or (strict and "warning" in severities):
        raise click.exceptions.Exit(WRONG)


def _file(file: str, hyper: dict[str, Any], length: int | None) -> tuple[list[Any], dict[str, str], list[Checked]]:
    """What is found in a file, the texts it is made of, and the programs that were checked."""
    from nldsl.diagnostics import Findings
    from nldsl.program import front_end, split

    findings, sources, checked = Findings(), dict[str, str](), list[Checked]()
    programs = [file]
    for program in programs:
        result = front_end(program, hyper, length=length)
        module, graph = result.module, result.graph
        if hyper:
            entered(result)
        findings.extend(result.findings.items)
        sources |= result.sources
        fine = not result.findings.errors
        if graph is not None:
            checked.append(_checked(file, graph, fine))
        elif module is not None:
            checked.append(Checked(file, "", fine, definitions=len(module.definitions)))
        if program == file and module is not None and not split(file)[2] and not hyper:
            models = [name for name, d in module.definitions.items() if d.kind == "model"]
            programs += [f"{file}:{name}" for name in models[:-1]]
    return findings.sorted(), sources, checked


def _checked(place: str, graph: Any, fine: bool) -> Checked:
    from nldsl.parameters import learned_parameters

    size = sum(p.size for p in learned_parameters(graph).values())
    levels = max((level for _, level in graph.nodes(data="level")), default=0)
    return Checked(place, graph.program, fine, size, levels)
