"""`nldsl train`: a compiled program learns from text, step by step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from nldsl.commands.bytes import fit
from nldsl.commands.common import Failure, data_option, opened, paint, set_option

if TYPE_CHECKING:
    from nldsl.commands.watch import Watch
    from nldsl.compiler.training import Options, Training
    from nldsl.compiler.training.checkpoint import Checkpoint
    from nldsl.compiler.training.source import Source
    from nldsl.graph import LevelGraph

SIGNALLED = 128  # and the signal's number: 130 for control-C

EPILOG = """\b
Examples:
  nldsl train examples/two_levels.nl --out run --steps 100
                                        the source of Python's library, a small model
  nldsl train hope.nl --out run --set dim=64 --set depth=2 --data plays/*.txt
  nldsl train hope.nl --out run --carry --length 512
                                        a state is kept from piece to piece, so slow levels write
  nldsl train --out run --resume --steps 500
                                        go on where it stopped, up to step 500

\b
DIR gets checkpoint.safetensors, which holds the program's text too, and metrics.jsonl, a line per step.
Control-C ends a run after its step, with a checkpoint. See also `nldsl eval DIR` and `nldsl generate DIR`.
"""


@click.command("train", epilog=EPILOG)
@click.argument("program", required=False)
@click.option("-o", "--out", required=True, metavar="DIR", help="The folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in DIR, with its options where none are given.")
@data_option("A text to train on, byte by byte; without one, the source of Python's library.")
@click.option("--valid", multiple=True, metavar="FILE", help="A text to validate with, instead of --held-out.")
@click.option("--held-out", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, metavar="SHARE",
              help="The last part of the data, kept to validate with.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True,
              help="Training steps in all, with those before a --resume.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Rows per step.")
@click.option("--length", type=click.IntRange(min=2), default=256, show_default=True, help="Tokens per row and step.")
@click.option("--carry", is_flag=True, help="Each row reads on through its own part of the text, with its state.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the parameters' starts and the data's order.")
@click.option("--save-every", type=click.IntRange(min=1), default=100, show_default=True, metavar="STEPS",
              help="Steps between checkpoints; the last step and control-C write one too.")  # fmt: skip
@click.option("--valid-every", type=click.IntRange(min=1), default=100, show_default=True, metavar="STEPS",
              help="Steps between validations; there is one at the end too.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is a GPU if there is one.")
@click.option("--compile", "compile_bodies", is_flag=True, help="Compile the step bodies with torch.compile.")
@click.option("--memory-budget", type=click.IntRange(min=1), metavar="MIB",
              help="What may be kept of the chunks of all memories; all else is computed again.")  # fmt: skip
@set_option
@click.pass_context
def command(
    ctx: click.Context, /, program: str | None, out: str, resume: bool, hyper: dict[str, Any], **given: Any
) -> None:
    """Train a program on text, one byte per token.

    Every learn on the step clock takes one step per batch; what learns on a token clock learns within each row, at
    training as afterwards. Without --carry each row is a piece from anywhere in the text and begins with fresh
    memories. Says the loss, the speed, and at which token or step each level wrote last.
    """
    if program is None and not resume:
        raise click.UsageError("Missing argument 'PROGRAM', which only --resume can do without.")
    from nldsl.commands.trouble import sentences

    with sentences():
        training = _begun(ctx, program, Path(out), resume, hyper, given)
        stopped = _run(training, given)
    _end(training)
    if stopped:
        raise click.exceptions.Exit(SIGNALLED + stopped)


# Beginning


def _begun(
    ctx: click.Context, program: str | None, folder: Path, resume: bool, hyper: dict[str, Any], given: dict[str, Any]
) -> Training:
    """Everything that can be wrong is found here, before the first step."""
    from nldsl.compiler.training.data import Pieces
    from nldsl.compiler.training.loop import Training
    from nldsl.compiler.training.restore import build, device_of
    from nldsl.compiler.training.start import OPTIONS, earlier, options_of, texts_of

    device = device_of(given["device"])
    kept = earlier(folder, resume)
    said = {name for name in OPTIONS if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE}
    options = options_of({name: given[name] for name in OPTIONS}, said, kept)
    texts = texts_of(options)
    pieces = Pieces(texts[0], options.batch, options.length, options.carry, options.seed)
    tokens = options.length * (min(given["steps"], pieces.per_region) if options.carry else 1)
    source, graph = _program(program, hyper, kept, tokens)
    fit(graph, "train")
    _learns(graph)
    _late_levels(graph, tokens, options)
    budget = (given["memory_budget"] or 0) << 20
    module = build(graph, device, options.seed, given["compile_bodies"], budget)
    training = Training(module, source, options, texts, folder)
    if kept is None:
        training.save()
    else:
        training.go_on(kept)
    size = sum(p.numel() for p in module.parameters())
    held = f", {len(texts[1]):,} to validate with" if texts[1] else ""
    click.echo(
        f"{graph.program}: {size:,} parameters on {device}, {options.batch} rows of {options.length} tokens per step\n"
        f"{texts[0].name}: {len(texts[0]):,} bytes to train on{held}",
        err=True,
    )
    return training


def _program(
    program: str | None, hyper: dict[str, Any], kept: Checkpoint | None, tokens: int
) -> tuple[Source, LevelGraph]:
    from nldsl.compiler.training.source import source_of

    if program is None:
        assert kept is not None
        if hyper:
            raise Failure("--set changes a program, and --resume goes on with the one of its run; leave it out")
        return kept.source, kept.source.graph(kept.version)
    if kept is not None and not hyper:
        hyper = dict(kept.source.hyper)
    result = opened(program, hyper, tokens, warn=True)
    assert result.graph is not None
    return source_of(program, hyper, result), result.graph


def _learns(graph: LevelGraph) -> None:
    """Ends the command if a training step would change nothing."""
    if not any(learn.every.unit == "step" and learn.memories for learn in graph.objectives):
        raise Failure(
            f"`{graph.program}` has nothing that learns once per step, so there is nothing to train; "
            "give it `learn * minimizing loss by adamw(1e-3) every step`, or let it read by `nldsl run`"
        )


def _late_levels(graph: LevelGraph, tokens: int, options: Options) -> None:
    """Warn of levels whose first write waits for the token behind the last. Longer periods were warned of already."""
    from nldsl.writes import joined, paces

    for pace in joined(paces(graph)):
        if pace.period.unit == "token" and pace.period.count == tokens and not pace.writes(tokens):
            way = "give more data or --steps" if options.carry else f"--length {tokens + 1} or --carry lets it"
            said = f"level {pace.levels[0]} writes {pace.period} when the next token is read, so never within {tokens}"
            click.echo(f"{paint('warning', '1;33')}: {said}; {way}", err=True)


# Running


def _run(training: Training, given: dict[str, Any]) -> int:
    """Steps until there are enough, or a signal; its number, or 0."""
    from nldsl.commands.watch import watch
    from nldsl.writes import joined, paces

    steps, save_every, valid_every = given["steps"], given["save_every"], given["valid_every"]
    with _signals() as caught, watch(steps, list(joined(paces(training.module.graph)))) as shown:
        while training.done < steps and not caught:
            shown.step(training.step(), training.sequence)
            last = training.done == steps or bool(caught)
            if training.done % save_every == 0 or last:
                training.save()
            if training.done % valid_every == 0 or last:
                _validate(training, shown, caught)
    return caught[0] if caught else 0


class _Stopped(Exception):
    """A signal came during a validation."""


def _validate(training: Training, shown: Watch, caught: list[int]) -> None:
    """Unless, or until, a signal comes."""

    def go_on(tokens: int) -> None:
        if caught:
            raise _Stopped

    with contextlib.suppress(_Stopped):
        go_on(0)
        found = training.validate(go_on)
        if found is not None and training.valid is not None:
            shown.say(f"step {training.done}: {found:.4f} bits per byte of {training.valid.name}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first control-C or SIGTERM, so that a step is never cut; a second one ends at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        click.echo("stopping after this step; once more to stop at once", err=True)

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(training: Training) -> None:
    graph, folder = training.module.graph, training.folder
    click.echo(f"{graph.program} after {training.done:,} steps and {training.tokens:,} tokens is in {folder}")
