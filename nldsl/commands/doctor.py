"""`nldsl doctor`: whether a program's memories live while it reads, and its parameters learn."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nldsl.commands.common import WRONG, Failure, colored, data_option, right, set_option, settings

if TYPE_CHECKING:
    from nldsl.compiler.doctor.subject import Subject

EPILOG = """\b
Examples:
  nldsl doctor hope.nl --set dim=32 --set depth=1 --set periods=[64,128]
  nldsl doctor std.titans --set dim=32 --set depth=1 --data plays.txt
  nldsl doctor hope.nl:SelfModifyingTitans --set dim=16
                                               a block over numbers reads random ones
  nldsl doctor std.delta:GatedDeltaRule --set d=16 --give alpha=0.99 --give beta=0.01
                                               a rule, whose rates are inputs
  nldsl doctor run --tokens 16384              what `nldsl train --out run` made of its program
  nldsl doctor hope.nl --json                  for scripts

\b
What is said of each memory that is written while the program runs:
  size       the norm of its weights against its start, after 16, 256 and all tokens; the median over
             sequences and heads. 0.1 to 10 is fine. A memory that starts below a tenth of a matrix [n, m]
             drawn by normal(n ^ -0.5) is measured by such a matrix (marked *), and only must not grow beyond
             10, unless it is a sum that forgets nothing and grows no faster than the text (linear attention).
  half-life  tokens until half of a small random change to it, all heads together, is gone, beside a copy that was not
             changed
  writes     the share of ticks at which each learn, or `<-`, really wrote
  gates      the streams that its optimizer, its retention, `weighted` or `<-` take as rates

\b
A parameter is dead if its gradient is exactly zero at each of three training steps: one behind a matrix of
zeros gets its first gradient at the second. `nldsl show --gradients` says from where it should come.
Exit codes: 0 fine, 1 something is wrong, 2 usage, 70 a bug in nldsl.
"""


@click.command("doctor", epilog=EPILOG)
@click.argument("program", metavar="PROGRAM|DIR")
@data_option("A text to read, byte by byte; without one, the source of Python's library, or what a DIR's run kept for "
             "validation.")  # fmt: skip
@click.option("--random", is_flag=True, help="Read random tokens. Blocks over streams of numbers always read random "
              "ones, with mean 0 and variance 1.")  # fmt: skip
@click.option("--give", "given", multiple=True, metavar="NAME=NUMBER", callback=settings, help="An input that stays at "
              "a number, as the rates of a rule have to: --give alpha=0.99. May be repeated.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(min=2), default=4096, show_default=True, help="Tokens of a sequence.")
@click.option("--batch", type=click.IntRange(min=1), default=2, show_default=True, help="Sequences read together.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the parameters' starts and all draws.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is a GPU if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON on standard output.")
@set_option
def command(
    program: str,
    data: tuple[str, ...],
    random: bool,
    given: dict[str, Any],
    tokens: int,
    batch: int,
    seed: int,
    device: str,
    as_json: bool,
    hyper: dict[str, Any],
) -> None:
    """Say whether a program's memories live while it reads, and whether its parameters learn.

    A program can be right and still be ill: a memory that forgets all in ten tokens, one that grows without bound,
    a `when` that never holds, a parameter no gradient reaches. The program reads a text piece by piece with its state
    carried on, so that the room it takes does not grow with the text, and takes three training steps. Nothing is kept.
    """
    if random and data:
        raise click.UsageError("--random and --data are two things to read; give one.")
    from nldsl.commands.trouble import sentences

    with sentences():
        from nldsl.commands.watch import progress
        from nldsl.compiler.doctor.examination import examine, work
        from nldsl.compiler.doctor.text import shown

        subject = _subject(program, hyper, seed, device)
        what, inputs = subject.inputs(data, random, tokens, batch, seed, given)
        rows, ticks = inputs[0].shape[:2]
        with progress(work(subject.module.graph, rows, ticks)) as advance:
            report = examine(subject.module, inputs, seed, advance)
    if as_json:
        click.echo(json.dumps({"data": what, **report.as_dict()}, indent=2, ensure_ascii=False))
    else:
        click.echo(shown(report, what, colored(sys.stdout)))
    if report.wrong:
        raise click.exceptions.Exit(WRONG)


def _subject(program: str, hyper: dict[str, Any], seed: int, device: str) -> Subject:
    from nldsl.as_model import whole
    from nldsl.compiler.doctor.subject import Subject
    from nldsl.compiler.training.loop import Options
    from nldsl.compiler.training.restore import build, device_of, restored

    place = device_of(device)
    if not Path(program).is_dir():
        graph = right(whole(program, hyper)).graph
        assert graph is not None
        return Subject(build(graph, place, seed))
    if hyper:
        raise Failure(f"--set changes a program, and `{program}` holds one that is trained; leave it out")
    module, kept = restored(Path(program), place)
    return Subject(module, Options(**kept.options))
