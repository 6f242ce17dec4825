"""`nldsl list`: what the standard library holds."""

from __future__ import annotations

import click

EPILOG = """\b
Examples:
  nldsl list                   every block and model: what its memories are and how they learn
  nldsl list delta             those whose name has `delta` in it
  nldsl list --primitives      what the language has built in: tensor operations, nothing else
  nldsl show std.delta:DeltaNet --set dim=64
"""


@click.command("list", epilog=EPILOG)
@click.argument("word", required=False)
@click.option("--primitives", is_flag=True, help="The primitives in their place: operations on tensors.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def command(word: str | None, primitives: bool, as_json: bool) -> None:
    """Say what the standard library holds, read off its files.

    A row is a block or a model: its memories, what they minimise, what they keep, how and how often they are written,
    how many levels that makes, the test that compares it with its equations, and the largest error found there.
    """
    if primitives:
        click.echo(_primitives(as_json))
        return
    from nldsl.listing import listed, shown

    found = [e for e in listed() if word is None or word.lower() in e.program.lower()]
    if not found:
        raise click.UsageError(f"nothing in the library has `{word}` in its name")
    if as_json:
        import json

        click.echo(json.dumps([e.as_dict() for e in found], indent=1))
    else:
        click.echo(shown(found))


def _primitives(as_json: bool) -> str:
    from nldsl.listing import primitives
    from nldsl.table import aligned

    rows = primitives()
    if as_json:
        import json

        return json.dumps(rows, indent=1)
    heads = [[name] for name in rows[0]]
    return "\n".join(aligned([heads, *([[value] for value in row.values()] for row in rows)]))
