"""`nldsl show`: a program as its levels, its gradients, its graph, its syntax tree, its plan or its code."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nldsl.collecting import uncollected
from nldsl.commands.common import WRONG, Failure, load, rendered, set_option

if TYPE_CHECKING:
    from nldsl.graph import LevelGraph

EPILOG = """\b
Examples:
  nldsl show hope.nl                         the level table
  nldsl show hope.nl --gradients             which loss reaches which parameter, and where it is cut
  nldsl show hope.nl:CMS --graph --set dim=8
                                             every record of the level graph, as text that reads back
  nldsl show hope.nl --tree                  the syntax tree, with lines and columns
  nldsl show hope.nl --plan                  how each memory is run, and why not faster
  nldsl show hope.nl:CMS --code --set dim=8  the FX code of every body that is run
"""


@click.command("show", epilog=EPILOG)
@click.argument("program")
@click.option("--levels", is_flag=True, help="The level table (what is shown if nothing is asked for).")
@click.option("--gradients", is_flag=True, help="What each parameter learns from, and through which writes.")
@click.option("--graph", "as_graph", is_flag=True, help="The level graph as text.")
@click.option("--tree", is_flag=True, help="The syntax tree; the program need not be right.")
@click.option("--plan", is_flag=True, help="How each memory is run, and why not faster. Imports torch.")
@click.option("--code", is_flag=True, help="The FX code of the compiled bodies. Imports torch.")
@click.option("--only", type=click.Choice(["recurrence"]), help="For --plan and --code: one tick after the other.")
@set_option
@uncollected()
def command(
    program: str,
    levels: bool,
    gradients: bool,
    as_graph: bool,
    tree: bool,
    plan: bool,
    code: bool,
    only: str | None,
    hyper: dict[str, Any],
) -> None:
    """Show what a program means.

    The level table says for each level, fastest first: its period, its memories, their learned numbers, the numbers
    kept per sequence, the levels that feed it, the other levels it reads, and how far back its gradient reaches.
    """
    parts = [_tree(program)] if tree else []
    if levels or gradients or as_graph or plan or code or not tree:
        graph = load(program, hyper)
        if levels or not (gradients or as_graph or tree or plan or code):
            from nldsl.table import level_table

            parts.append(str(level_table(graph)))
        if gradients:
            parts.append(contract_table(graph))
        if as_graph:
            from nldsl.graph_text import show_graph

            parts.append(show_graph(graph).rstrip("\n"))
        if plan:
            from nldsl.compiler.plan import planned

            parts.append(str(planned(graph, only or "")))
        if code:
            from nldsl.compiler.code import code as fx_code

            parts.append(fx_code(graph, only or ""))
    click.echo("\n\n".join(parts))


def _tree(program: str) -> str:
    """The syntax tree of a text, or of one definition in it."""
    from dataclasses import replace

    from nldsl.commands.tree_text import show_tree
    from nldsl.diagnostics import Findings, nearest
    from nldsl.modules import library
    from nldsl.program import split
    from nldsl.syntax.parse import parse, read

    place, _, name = split(program)
    path = Path(place)
    if place.startswith("std.") and path.suffix != ".nl":
        path = library().joinpath(*place.split(".")[1:]).with_suffix(".nl")
    findings = Findings()
    text, problems = read(path)
    findings.extend(problems)
    module = None
    if not problems:
        module, problems = parse(text, str(path))
        findings.extend(problems)
    if problems:
        click.echo(rendered(findings.sorted(), {str(path): text}, sys.stderr), err=True)
    if module is None or findings.errors:
        raise click.exceptions.Exit(WRONG)
    if name:
        known = [d.name.id for d in module.definitions]
        if name not in known:
            raise Failure(f"`{place}` defines no `{name}`; {nearest(name, known) or 'without `:NAME`, all is shown'}")
        kept = tuple(d for d in module.definitions if d.name.id == name)
        module = replace(module, imports=(), doc=None, definitions=kept)
    return show_tree(module)


def contract_table(graph: LevelGraph) -> str:
    """The gradient contract, rows of repeated layers folded."""
    from nldsl.checks.gradients import contract
    from nldsl.diagram.fold import Folding

    rows = contract(graph)
    fold = Folding.of(row.parameter for row in rows)
    lines = Counter(
        (fold(row.parameter), row.role, row.learned_by or "nothing", row.loss or "-", _folded(row.way, fold))
        for row in rows
    )
    cells = [("parameter", "what it is", "learned by", "from", "gradient comes")]
    cells += [(f"{first} x{n}" if n > 1 else first, *others) for (first, *others), n in lines.items()]  # type: ignore[misc]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    cells.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    text = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    reached = sum(row.reached for row in rows)
    return "\n".join([*text, "", f"{graph.program}: a gradient reaches {reached} of {len(rows)}"])


def _folded(way: str, fold: Any) -> str:
    return " ".join(fold(word) for word in way.split(" "))
