"""What `nldsl cost` says of every program of the standard library, against a run of it on real tensors.

    python benchmarks/check_cost.py [--only delta] [--length 64] [--batch 2]

FLOPs of a training step against torch's own counter over the traced bodies, run eagerly; the bytes of a state against
those of its tensors; peak memory against the storages that are alive in a real step. Writes
`benchmarks/results/cost.json` and `cost.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import torch  # noqa: E402
from agree import commit, table  # noqa: E402
from check_library import hyper_of  # noqa: E402
from compiler.running import Real  # noqa: E402
from nldsl.compiler.cost.costs import cost  # noqa: E402

import nldsl  # noqa: E402
from nldsl.graph import LevelGraph  # noqa: E402
from nldsl.listing import listed  # noqa: E402

FLOPS, PEAK = 0.1, 0.25  # how far off a count may be; a state not at all


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


def apart(counted: float, measured: float) -> float:
    return abs(counted - measured) / measured if measured else abs(counted)


def graph_of(program: str) -> LevelGraph:
    """A program at small sizes; what learns from the loss, in a model."""
    hyper = hyper_of(program)
    try:
        return nldsl.load(program, **hyper)
    except nldsl.ProgramError:
        return nldsl.load(program, as_model=True, **hyper)


def of_program(program: str, batch: int, length: int) -> Found:
    graph = graph_of(program)
    begun = time.perf_counter()
    said = cost(graph, batch=batch, length=length)
    seconds = time.perf_counter() - begun
    real = Real(graph, batch, length)
    tokens = batch * length
    return Found(
        program,
        (said.total.train_flops * tokens, real.flops()),
        (said.total.state * batch, real.state()),
        (said.peak, real.peak()),
        seconds,
    )


def page(rows: list[Found], batch: int, length: int) -> str:
    head = ["program", "FLOPs", "off by", "state, bytes", "measured", "peak, bytes", "off by", ""]
    cells: list[list[Any]] = []
    for r in rows:
        flops, peak = f"{100 * apart(*r.flops):.1f} %", f"{100 * apart(*r.peak):.1f} %"
        cells.append([r.program, f"{r.flops[0]:,.0f}", flops, f"{r.state[0]:,.0f}", f"{r.state[1]:,.0f}",
                      f"{r.peak[0]:,.0f}", peak, "fine" if r.fine else "NOT FINE"])  # fmt: skip
    return "\n\n".join(
        [
            "# What `nldsl cost` says, and what is so",
            f"Commit {commit()}, torch {torch.__version__}. A training step of {batch} sequences of {length} tokens in "
            "float32 on a CPU, and the state behind them. FLOPs may be off by 10 %, peak memory by 25 %.",
            table(head, cells),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="programs with this in their name; nothing is kept")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    rows = []
    for entry in listed():
        if given.only in entry.program:
            found = of_program(entry.program, given.batch, given.length)
            rows.append(found)
            print(f"{'fine' if found.fine else 'NOT FINE':9} {found.seconds:5.1f} s  {found}", flush=True)
    if not given.only:
        results = HERE / "results"
        results.mkdir(exist_ok=True)
        (results / "cost.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")
        (results / "cost.md").write_text(page(rows, given.batch, given.length) + "\n", encoding="utf-8")
    return 0 if all(r.fine for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
