"""What is shown while something goes on: a bar on a terminal; elsewhere plain lines, or nothing. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from nldsl.writes import Pace

if TYPE_CHECKING:
    from nldsl.compiler.training import Metrics

LINES = 20  # of a whole run
PAUSE = 10.0  # seconds between two lines at most


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar where there is a terminal. What it gives is told how many more tokens were read."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda count: bar.update(task, advance=count)


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """What is being done, where there is a terminal. What it gives is told whenever something else begins."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


# Training


def watch(steps: int, paces: Sequence[Pace]) -> Watch:
    """What shows a run of so many steps."""
    return Bar(steps, paces) if sys.stderr.isatty() else Watch(steps, paces)


class Watch:
    """Plain lines: the first and last step, and others now and then."""

    def __init__(self, steps: int, paces: Sequence[Pace]) -> None:
        self.steps, self.paces = steps, paces
        self.said = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, metrics: Metrics, tokens: int) -> None:
        """tokens: of the sequence that each row stands in."""
        now = time.monotonic()
        every = max(1, self.steps // LINES)
        if metrics.step % every == 0 or metrics.step == self.steps or now - self.said > PAUSE:
            self.said = now
            self.say(self.line(metrics, tokens))

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def line(self, metrics: Metrics, tokens: int) -> str:
        width = len(str(self.steps))
        return f"step {metrics.step:>{width}}/{self.steps}   {measured(metrics)}   {self.writes(metrics, tokens)}"

    def writes(self, metrics: Metrics, tokens: int) -> str:
        return "last writes: " + ", ".join(_last(pace, tokens, metrics.step) for pace in self.paces)


class Bar(Watch):
    """A bar that moves, and below it the levels' last writes. When it goes, the last step's line stays."""

    def __init__(self, steps: int, paces: Sequence[Pace]) -> None:
        super().__init__(steps, paces)
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.text import Text

        measures = TextColumn("{task.fields[measured]}")
        self.bar = Progress(TextColumn("step"), BarColumn(), MofNCompleteColumn(), measures, TimeRemainingColumn())
        self.task = self.bar.add_task("step", total=steps, measured="")
        self.levels = Text("")
        self.last = ""
        self.live = Live(Group(self.bar, self.levels), console=Console(stderr=True), transient=True)

    def __enter__(self) -> Watch:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        if self.last:
            click.echo(self.last, err=True)

    def step(self, metrics: Metrics, tokens: int) -> None:
        self.bar.update(self.task, completed=metrics.step, measured=measured(metrics))
        self.levels.plain = self.writes(metrics, tokens)
        self.last = self.line(metrics, tokens)

    def say(self, text: str) -> None:
        self.live.console.print(text, markup=False, highlight=False)


def measured(metrics: Metrics) -> str:
    return (
        f"loss {metrics.loss:.4f} nats   {metrics.bits_per_byte:.4f} bits per byte   "
        f"{metrics.tokens_per_second:,.0f} tokens/s"
    )


def _last(pace: Pace, tokens: int, steps: int) -> str:
    """`level 2 token 240`."""
    last = pace.last(tokens, steps)
    first, *others = pace.levels
    name = f"levels {first}-{others[-1]}" if others else f"level {first}"
    return f"{name} {pace.period.unit} {last}" if last else f"{name} none yet"
