"""The command `nldsl`. Each command is a module of `nldsl.commands` and is imported when it is used.

Exit codes: 0 fine, 1 the program is wrong (or what it was asked for can't be had), 2 usage, 70 a bug in nldsl.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

COMMANDS = {
    "new": "Write a commented program to start from.",
    "check": "Say whether programs are right, and what is wrong with them.",
    "show": "Show a program's levels, its gradients, its graph or its tree.",
    "draw": "Draw a program's levels as a picture.",
    "run": "Let a model read text, one byte at a time, and watch it learn.",
    "train": "Train a program on text.",
    "eval": "Say how well a trained program predicts a text, with and without in-context learning.",
    "generate": "Let a trained program write on from a prompt.",
    "doctor": "Say whether a program's memories live while it reads, and its parameters learn.",
    "cost": "Say what a program takes to train and to run: FLOPs, bytes and memory, by level.",
    "equiv": "Say whether two programs are the same function, and where they part if not.",
    "list": "Say what the standard library holds.",
    "explain": "Say what a diagnostic code means.",
}
BUG, INTERRUPTED, PIPE = 70, 130, 141

HELP = """A small language for nested learners: memories that say how they learn.

\b
  nldsl new mine.nl                    a program to start from
  nldsl check hope.nl                  is it right?
  nldsl show hope.nl                   its levels, fastest first
  nldsl draw hope.nl -o hope.svg       their picture
  nldsl run hope.nl --set dim=32       let it read a text
  nldsl train hope.nl --out run        train it; then nldsl eval run, nldsl generate run
  nldsl equiv a.nl:Omega b.nl:Delta    are they the same function?
  nldsl cost hope.nl                   what it takes to train and to run
  nldsl list                           the standard library
  nldsl explain NL401                  what a code means

A PROGRAM is `FILE.nl`, `FILE.nl:Name` for one definition in it, or `std.hope:Hope` for one of the standard
library; a file's last model is its default.
"""


class Commands(click.Group):
    """The commands by name; help on all of them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"nldsl.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from nldsl import __version__

        click.echo(f"nldsl {__version__}")
        ctx.exit()


@click.group(
    cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say the version.")
def cli() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a command and exits with its code; never shows a traceback."""
    atexit.register(gc.freeze)  # what is left when Python ends goes with it: no search for cycles in it
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what a terminal can't show
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has read enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PIPE
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code: Any = cli.main(arguments, prog_name="nldsl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        click.echo(bug(error), err=True)
        return BUG
    return code if isinstance(code, int) else 0


def bug(error: BaseException) -> str:
    """What to say of an exception that should not have happened: the sentence and where it was."""
    here = str(Path(__file__).resolve().parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(here)] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else "an unknown place"
    said = " ".join(str(error).split())[:300]
    return (
        "this is a bug in nldsl; please report it with the program\n"
        f"  {type(error).__name__}{': ' if said else ''}{said}\n  at {place}"
    )


if __name__ == "__main__":
    main()
