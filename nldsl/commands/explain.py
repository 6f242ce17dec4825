"""`nldsl explain`: the page of a diagnostic code, or all codes with their titles."""

from __future__ import annotations

import click

EPILOG = """\b
Examples:
  nldsl explain NL401        the page of one code
  nldsl explain 401          the same
  nldsl explain              every code with its title
"""


@click.command("explain", epilog=EPILOG)
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what a diagnostic code means: why it is an error, and a program with and without it.

    CODE stands in brackets behind the word `error` or `warning`. Without one, all codes are listed.
    """
    from nldsl.codes import CODES
    from nldsl.explain import UnknownCode, explain

    if code is None:
        click.echo("\n".join(f"{name}  {title}" for name, title in CODES.items()))
        return
    try:
        click.echo(explain(code).rstrip("\n"))
    except UnknownCode as error:
        raise click.UsageError(str(error)) from None
