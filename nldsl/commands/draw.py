"""`nldsl draw`: the picture of a program's levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nldsl.collecting import uncollected
from nldsl.commands.common import Failure, load, set_option

FORMATS = (".svg", ".png", ".dot")

EPILOG = """\b
Examples:
  nldsl draw hope.nl -o hope.svg
  nldsl draw std.transformer -o transformer.png --set depth=2
  nldsl draw hope.nl:CMS -o cms.dot --set dim=64      Graphviz text, which needs no Graphviz
"""


@click.command("draw", epilog=EPILOG)
@click.argument("program")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .svg, .png or .dot file to write.")
@set_option
@uncollected()
def command(program: str, output: str, hyper: dict[str, Any]) -> None:
    """Draw a program's levels.

    Levels are bands from the fastest to the slowest with their memories in them; arrows say what reads, teaches and
    starts what. Repeated layers are folded.
    """
    if Path(output).suffix.lower() not in FORMATS:
        raise click.BadParameter(f"`{output}` must end in .svg, .png or .dot", param_hint="-o")
    graph = load(program, hyper)
    from nldsl.diagram.draw import DrawError, draw

    try:
        draw(graph, output)
    except DrawError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"`{output}` can't be written: {(error.strerror or str(error)).lower()}") from None
    click.echo(f"{graph.program} is drawn in {output}")
