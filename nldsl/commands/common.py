"""What the commands share: `--set`, sentences that end a command, programs loaded or said to be wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from nldsl.diagnostics import Diagnostic
    from nldsl.graph import LevelGraph
    from nldsl.program import Result

WRONG = 1
LEGAL = "a number (3, 0.5, 1e-3), true, false, or a list of them ([16, 64])"
LONGEST = 1000  # characters of a value
LARGEST = 400  # of an exponent
NUMBER = re.compile(r"[+-]?(\d+)(\.\d+)?([eE]([+-]?\d+))?", re.ASCII)

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Ends a command with a sentence and exit code 1."""

    exit_code = WRONG

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"{paint('error', '1;31')}: {self.format_message()}", file=file, err=file is None)


def paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colored(sys.stderr) else text


def colored(stream: Any) -> bool:
    """Whether what goes to this stream may carry colour (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# --set


def set_option(command: Command) -> Command:
    """The option `--set name=value`, given to the command as the dictionary `hyper`."""
    return click.option(
        "--set", "hyper", multiple=True, metavar="NAME=VALUE", callback=settings, expose_value=True,
        help="A hyper-parameter: --set dim=64 --set lr=1e-3 --set periods=[16,64]. May be repeated.",
    )(command)  # fmt: skip


def settings(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        name, equal, value = text.partition("=")
        name = name.strip()
        if not equal or not name.isidentifier():
            raise click.BadParameter(f"`{text[:40]}` is not NAME=VALUE, such as dim=64", ctx, parameter)
        if name in found:
            raise click.BadParameter(f"`{name}` is set twice", ctx, parameter)
        try:
            found[name] = read_value(value)
        except ValueError:
            raise click.BadParameter(f"`{name}` can't be `{value[:40]}`: it takes {LEGAL}", ctx, parameter) from None
    return found


def read_value(text: str) -> Any:
    """`3`, `0.5` (exactly 1/2), `1e-3`, `true`, `[16, 64]` -> its value. Raises ValueError for anything else."""
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError("too long")
    if text.startswith("[") and text.endswith("]"):
        inside = text[1:-1].strip().removesuffix(",")
        return [_single(item) for item in inside.split(",")] if inside else []
    return _single(text)


def _single(text: str) -> int | Fraction | bool:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    found = NUMBER.fullmatch(text)
    if found is None or abs(int(found[4] or 0)) > LARGEST:
        raise ValueError(text)
    exact = Fraction(text)
    return int(exact) if exact.denominator == 1 else exact


def data_option(what: str) -> Callable[[Command], Command]:
    """The option `--data FILE...`, given to the command as the tuple `data`."""

    def decorate(command: Command) -> Command:
        given = click.option("--data", multiple=True, metavar="FILE...", help=f"{what} Several are read in this order.")
        more = click.argument("data_more", nargs=-1, metavar="", expose_value=False, callback=_more)
        return given(more(command))

    return decorate


def _more(ctx: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> None:
    """A shell makes `--data *.txt` several words; those behind the first are data too."""
    if not files:
        return
    if not ctx.params.get("data"):
        raise click.UsageError(f"Got unexpected extra argument (`{files[0]}`); texts are named by --data.", ctx)
    ctx.params["data"] += files


# Programs


def load(program: str, hyper: dict[str, Any], length: int | None = None, warn: bool = False) -> LevelGraph:
    """The graph of a program. Where it is wrong, its diagnostics go to stderr and the command ends with code 1.
    length: how many tokens it is for. warn: warnings are said too."""
    graph = opened(program, hyper, length, warn).graph
    assert graph is not None
    return graph


def opened(program: str, hyper: dict[str, Any], length: int | None = None, warn: bool = False) -> Result:
    """The same with the program's texts."""
    from nldsl.program import front_end

    return right(front_end(program, hyper, length=length), warn)


def right(result: Result, warn: bool = False) -> Result:
    """The result, if its program is right; else its diagnostics go to stderr and the command ends with code 1."""
    entered(result)
    said = [d for d in result.findings.sorted() if result.findings.errors or (warn and d.severity == "warning")]
    if said:
        click.echo(rendered(said, result.sources, sys.stderr), err=True)
    if result.graph is None or result.findings.errors:
        raise click.exceptions.Exit(WRONG)
    return result


def entered(result: Result) -> None:
    """Say so in the findings where a file has no program in it."""
    from nldsl.program import entry

    if result.graph is None and not result.findings.errors and result.module is not None:
        entry(result.module, "model", result.findings)


def rendered(found: Iterable[Diagnostic], sources: dict[str, str], stream: Any) -> str:
    from nldsl.render import render

    return render(found, sources, colored(stream)).rstrip("\n")
