"""`nldsl eval`: how well a trained program predicts a text, and what learning while reading is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nldsl.commands.common import data_option

if TYPE_CHECKING:
    from nldsl.compiler.training import Options, Scores, Text

LIMIT = 65_536
CARRIED = 8  # pieces of a sequence, for a run that carried its state from piece to piece

EPILOG = """\b
Examples:
  nldsl eval run                              on the text that was held out from training
  nldsl eval run --data plays.txt             on another one
  nldsl eval run --length 4096                does it use more context than it was trained with?
  nldsl eval run --data plays.txt --json      for scripts

\b
"Without" is the same model with every `learn` on a token clock taken out: its memories stay at their learned
starts, as if each had just been restarted. What reads on by a closed form stays: attention, convolutions,
states and `M <- ...`. It was not trained to be used like that, so the gain says how much of the prediction
rests on learning while reading, not what another model could do.
"""


@click.command("eval", epilog=EPILOG)
@click.argument("folder", metavar="DIR")
@data_option("A text to read; without one, what the run kept for validation.")
@click.option("--length", type=click.IntRange(min=2), help="Tokens of a sequence, each from fresh memories.  [default: "
              f"as in training; {CARRIED} times that after --carry]")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Sequences read together.  [default: as in training]")
@click.option("--limit", type=click.IntRange(min=2), default=LIMIT, show_default=True, help="Bytes read, about.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is a GPU if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON on standard output.")
def command(
    folder: str, data: tuple[str, ...], length: int | None, batch: int | None, limit: int, device: str, as_json: bool
) -> None:
    """Say how well a trained program predicts a text.

    Gives bits per byte, overall and by the place in the sequence, with and without in-context learning: the learning
    of memories while they read.
    """
    from nldsl.commands.trouble import sentences

    with sentences():
        from nldsl.commands.watch import progress
        from nldsl.compiler.training.evaluate import rows_of, score
        from nldsl.compiler.training.frozen import learns_in_context
        from nldsl.compiler.training.loop import Options
        from nldsl.compiler.training.restore import device_of, restored, without_learning

        module, kept = restored(Path(folder), device_of(device))
        options = Options(**kept.options)
        text = _text(options, data)
        piece = options.length
        length = length or piece * (CARRIED if options.carry else 1)
        rows = rows_of(text, length, max(1, limit // length))
        models = [module] + ([without_learning(module)] if learns_in_context(module.graph) else [])
        with progress(rows.numel() * len(models)) as advance:
            scores = [score(model, rows, batch or options.batch, piece, advance) for model in models]
    name = f"{module.graph.program} after {kept.step:,} steps"
    if as_json:
        click.echo(json.dumps({"program": name, "data": text.name, **_document(scores)}, indent=2))
        return
    count = f"{len(rows):,} sequence{'s' * (len(rows) != 1)} of {rows.shape[1]:,}"
    click.echo(f"{name} read {rows.numel():,} bytes of {text.name}: {count}\n\n{_table(scores)}")
    if len(models) == 1:
        click.echo("\nnothing in it learns on a token clock by descent, so there is nothing to go without")


def _text(options: Options, data: tuple[str, ...]) -> Text:
    from nldsl.compiler.training.data import text_of
    from nldsl.compiler.training.start import texts_of

    if data:
        return text_of(data)
    train, valid = texts_of(options)
    return valid or train


def _table(scores: list[Scores]) -> str:
    """A line per bucket of places and one for all; with two scores also what the second lacks."""
    rows = [("places", "bits per byte", "without", "gain")]
    for buckets in zip(*(score.buckets() for score in scores), strict=True):
        rows.append((f"{buckets[0].first}-{buckets[0].last}", *_cells([b.bits_per_byte for b in buckets])))
    rows.append(("all", *_cells([score.bits_per_byte for score in scores])))
    if len(scores) == 1:
        rows = [row[:2] for row in rows]  # type: ignore[misc]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join("  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows)


def _cells(bits: list[float]) -> tuple[str, str, str]:
    first, *other = (f"{b:.4f}" for b in bits)
    return (first, other[0], f"{bits[1] - bits[0]:+.4f}") if other else (first, "", "")


def _document(scores: list[Scores]) -> dict[str, Any]:
    names = ("with", "without")
    return {
        name: {"bits_per_byte": score.bits_per_byte, "places": [vars(bucket) for bucket in score.buckets()]}
        for name, score in zip(names, scores, strict=False)
    }
