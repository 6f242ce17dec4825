"""What `nldsl cost` says of every program of the standard library, against a run of it on real tensors.

    python -m benchmarks.costs [--only delta] [--length 64] [--batch 2]

FLOPs of a training step against torch's own counter over the traced bodies, run eagerly; the bytes of a state against
those of its tensors; peak memory against the storages that are alive in a real step. Writes
`benchmarks/results/costs.json` and `costs.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from compiler.running import Real
from library.examined import hyper_of
from nldsl.compiler.cost.costs import cost

import nldsl
from benchmarks.reporting import RESULTS, commit, machine, table
from nldsl.graph import LevelGraph
from nldsl.listing import listed

SIZES = {"dim": 16, "d": 8, "heads": 2, "depth": 1, "chunk": 8, "periods": [16, 32]}
FLOPS, PEAK = 0.1, 0.25  # how far off a count may be; a state not at all
HEAD = ["program", "FLOPs", "off by", "state, bytes", "measured", "peak, bytes", "off by", ""]


@dataclass
class Found:
    """Each as counted and as measured. seconds: of the counting."""

    program: str
    flops: tuple[float, float]
    state: tuple[float, float]
    peak: tuple[float, float]
    seconds: float

    @property
    def fine(self) -> bool:
        return apart(*self.flops) <= FLOPS and self.state[0] == self.state[1] and apart(*self.peak) <= PEAK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="programs with this in their name; nothing is kept")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    found = []
    for entry in listed():
        if given.only in entry.program:
            found.append(of_program(entry.program, given.batch, given.length))
            print(f"{found[-1].seconds:5.1f} s  {' '.join(line(found[-1]))}", flush=True)
    if not given.only:
        write(found, given.batch, given.length)
    return 0 if all(row.fine for row in found) else 1


def of_program(program: str, batch: int, length: int) -> Found:
    graph = graph_of(program)
    begun = time.perf_counter()
    said = cost(graph, batch=batch, length=length)
    seconds = time.perf_counter() - begun
    real = Real(graph, batch, length)
    flops = said.total.train_flops * batch * length, real.flops()
    return Found(program, flops, (said.total.state * batch, real.state()), (said.peak, real.peak()), seconds)


def graph_of(program: str) -> LevelGraph:
    """A program at small sizes; what learns from the loss, in a model."""
    hyper = hyper_of(program, SIZES)
    try:
        return nldsl.load(program, **hyper)
    except nldsl.ProgramError:
        return nldsl.load(program, as_model=True, **hyper)


def apart(counted: float, measured: float) -> float:
    return abs(counted - measured) / measured if measured else abs(counted)


def line(row: Found) -> list[str]:
    flops, peak = (f"{100 * apart(*pair):.1f} %" for pair in (row.flops, row.peak))
    counted, state, measured, most = (f"{x:,.0f}" for x in (row.flops[0], *row.state, row.peak[0]))
    return [row.program, counted, flops, state, measured, most, peak, "fine" if row.fine else "NOT FINE"]


def write(found: Sequence[Found], batch: int, length: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    rows = {"machine": machine(), "commit": commit(), "rows": [asdict(row) for row in found]}
    (RESULTS / "costs.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    page = [
        "# What `nldsl cost` says, and what is so",
        f"A training step of {batch} sequences of {length} tokens in float32 on a CPU, and the state behind them, at "
        f"sizes {SIZES}. FLOPs may be off by {FLOPS:.0%}, peak memory by {PEAK:.0%}, the state not at all. "
        f"Commit {commit()}, torch {machine()['torch']}.",
        table(HEAD, map(line, found)),
    ]
    (RESULTS / "costs.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
