"""`nldsl cost`: what a program takes to train and to run, before anything of it is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nldsl.commands.common import Failure, load, set_option
from nldsl.commands.watch import doing

if TYPE_CHECKING:
    from nldsl.graph import LevelGraph

EPILOG = """\b
Examples:
  nldsl cost hope.nl --set dim=256 --set depth=2
  nldsl cost std.hope:Hope --set dim=2048 --set depth=24 --batch 8 --length 1024 --dtype bfloat16
  nldsl cost std.delta:DeltaNet --set dim=64 --device l4
  nldsl cost hope.nl --device cpu --peak 1e11 --bandwidth 2e10
  nldsl cost hope.nl --json                    for scripts

\b
What is counted:
  parameters   learned numbers
  state        bytes that are kept for a sequence, after --length tokens
  FLOPs        of matrix products; a multiplication and an addition are two
  bytes        that operators read and write, one after the other
  train        one step of --batch sequences of --length tokens: forward, backward and the optimizers of the
               text; of a block, the gradients of its outputs
  decode       one more token of each sequence, the mean over all kinds of ticks: at the ends of chunks and of
               windows more is done. Writes that come with the end of a loss segment count with each of its ends.
  peak memory  the most that is alive at once: parameters, gradients, what optimizers keep, activations
  floor        the longer of FLOPs / the device's peak and bytes / its bandwidth. Fused operators move less.

\b
The program is run, as it is compiled, on tensors without numbers, over the whole of --length: nothing is
extrapolated in time. Of a `repeat` two or three rounds are run, and the others count as the last one, where the
last two cost the same. What belongs to no level or block is in the row `rest`.
Exit codes: 0 fine, 1 the program is wrong, 2 usage, 70 a bug in nldsl.
"""


@click.command("cost", epilog=EPILOG)
@click.argument("program")
@set_option
@click.option("--length", type=click.IntRange(min=2), default=512, show_default=True, help="Tokens of a sequence.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at once.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True,
              help="Of all numbers.")  # fmt: skip
@click.option("--device", default="h200", show_default=True, help="h200, h100, a100, l4, or any name with its figures.")
@click.option("--peak", type=click.FloatRange(min=0, min_open=True), metavar="FLOP/S", help="Of that device.")
@click.option("--bandwidth", type=click.FloatRange(min=0, min_open=True), metavar="BYTES/S", help="Of its memory.")
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON on standard output.")
def command(
    program: str,
    hyper: dict[str, Any],
    length: int,
    batch: int,
    dtype: str,
    device: str,
    peak: float | None,
    bandwidth: float | None,
    as_json: bool,
) -> None:
    """Say what a program costs: parameters, state, FLOPs, bytes moved and memory, by level and by block.

    No tensor is made: shapes alone say it, so a model that fits no machine can be looked at on any.
    """
    graph = load(program, hyper)
    import torch

    from nldsl.compiler.cost.costs import cost
    from nldsl.compiler.cost.devices import device_of
    from nldsl.compiler.cost.text import shown

    try:
        place = device_of(device, dtype, peak, bandwidth)
    except ValueError as error:
        raise Failure(str(error)) from None

    def shorter(rounds: int) -> LevelGraph | None:
        from nldsl.program import front_end

        return front_end(program, hyper, rounds=rounds).graph

    with doing() as say:
        found = cost(graph, shorter, batch, length, getattr(torch, dtype), say)
    click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False) if as_json else shown(found, place))
