"""`nldsl run`: the reference interpreter reads a text, and says how well it did and what moved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from nldsl.commands.bytes import fit
from nldsl.commands.common import Failure, load, set_option
from nldsl.commands.watch import progress

PIECE = 16  # tokens between two looks at the keyboard
SLOW = 2_000_000  # parameters beyond which a token takes seconds
INTERRUPTED = 130

EPILOG = """\b
Examples:
  nldsl run hope.nl --set dim=32 --set depth=2 --set heads=4 --set periods=[16,64,256]
  nldsl run std.titans shakespeare.txt --set dim=32 --set depth=1 --tokens 512
  nldsl run examples/two_levels.nl --seed 1 --window 128

\b
The interpreter says what a program means and is slow: a token takes 30 to 100 ms even in a small model.
Control-C ends a run with what was reached.
"""


@click.command("run", epilog=EPILOG)
@click.argument("program")
@click.argument("file", required=False)
@click.option("--tokens", type=click.IntRange(min=2), default=1024, show_default=True, help="How many bytes to read.")
@click.option("--window", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens per line of output.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the parameters' starts.")
@set_option
def command(program: str, file: str | None, tokens: int, window: int, seed: int, hyper: dict[str, Any]) -> None:
    """Let a model read text, one byte at a time, and watch it learn.

    Reads the first bytes of FILE, or English prose that comes with Python. Nothing is trained beforehand: the
    parameters are drawn with --seed, and only what learns on a token clock learns. Says the loss of each window, and
    at the end how often each level could write and how far its memories moved from their starts.
    """
    text = _text(file, tokens)
    graph = load(program, hyper, length=len(text), warn=True)
    fit(graph, "run")
    from nldsl.commands.reader import Reader

    reader = Reader(graph, seed)
    size = reader.parameters
    source = file or "the documentation of Python"
    click.echo(f"{graph.program}: {size:,} parameters read {len(text):,} bytes of {source}")
    if size > SLOW:
        click.echo("this is much for the reference interpreter; --set can make it smaller", err=True)
    windows = _Windows(window, len(text))
    stopped = False
    try:
        with progress(len(text)) as advance:
            for start in range(0, len(text), PIECE):
                piece = text[start : start + PIECE]
                windows.add(reader.read(piece))
                advance(len(piece))
    except KeyboardInterrupt:
        stopped = True
    windows.finish()
    if stopped:
        click.echo(f"interrupted after {reader.read_so_far:,} bytes")
    click.echo("\n" + reader.summary())
    if stopped:
        raise click.exceptions.Exit(INTERRUPTED)


def _text(file: str | None, tokens: int) -> bytes:
    if file is None:
        return _prose()[:tokens]
    path = Path(file)
    if path.is_dir():
        raise Failure(f"`{file}` is a folder; give a text file")
    try:
        with path.open("rb") as stream:
            text = stream.read(tokens)
    except (OSError, ValueError) as error:
        raise Failure(f"`{file}` can't be read: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    if len(text) < 2:
        raise Failure(f"`{file}` holds {'one byte' if text else 'nothing'}; there is nothing to predict")
    return text


def _prose() -> bytes:
    """English that every Python ships: its own documentation, in the order of its topics."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise Failure("this Python comes without its documentation; give a text file to read") from None
    return "\n\n".join(topics[name] for name in sorted(topics)).encode("utf-8")


class _Windows:
    """Prints the mean loss of every `length` ticks as they become known."""

    def __init__(self, length: int, ticks: int) -> None:
        self.length, self.width = length, len(str(ticks))
        self.open: list[float] = []
        self.done = 0

    def add(self, losses: list[float]) -> None:
        for loss in losses:
            self.open.append(loss)
            if len(self.open) == self.length:
                self.finish()

    def finish(self) -> None:
        if not self.open:
            return
        mean = sum(self.open) / len(self.open)
        last = self.done + len(self.open) - 1
        place = f"tokens {self.done:>{self.width}} to {last:>{self.width}}"
        click.echo(f"{place}   loss {mean:8.4f} nats   {mean / math.log(2):8.4f} bits per byte")
        self.done, self.open = last + 1, []
