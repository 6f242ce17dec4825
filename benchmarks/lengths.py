"""What a token costs as texts get longer, for every block of the standard library that keeps no attention.

    python -m benchmarks.lengths [--only delta] [--most 65536]

A text is read in pieces, each with the state that the one before left. Reading is linear if the last pieces take as
long as the first; memory is flat if they need no more at once, and leave a state of the same size; and writing on, a
token at a time, takes as long after the text as at its beginning. Writes `benchmarks/results/lengths.json` and
`lengths.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from library.examined import hyper_of
from torch import Tensor
from torch.utils._pytree import tree_leaves

import nldsl
from benchmarks.reporting import RESULTS, commit, machine, table
from benchmarks.speed.memory import peak
from nldsl.listing import listed

SIZES = {"dim": 64, "d": 16, "heads": 4, "depth": 1, "chunk": 16, "periods": [64, 256]}
PIECE, STEPS, ENDS, VOCAB = 2048, 64, 4, 256
SLACK = 1.25  # of two medians of a shared machine
HEAD = ["program", "tokens", "tokens/s, first", "last", "MiB, first", "last", "state, KiB", "ms a token", "after", ""]


@dataclass
class Found:
    """speed: tokens per second in the first and the last pieces. memory: the most bytes alive at once in one of them.
    state: bytes after the first piece and after the last. step: seconds of one token, at the beginning and after the
    text. at: the commit that was measured."""

    program: str
    tokens: int
    speed: tuple[float, float]
    memory: tuple[int, int]
    state: tuple[int, int]
    step: tuple[float, float]
    at: str

    @property
    def fine(self) -> bool:
        slower, longer = self.speed[0] / self.speed[1], self.step[1] / self.step[0]
        return max(slower, longer) <= SLACK and self.memory[1] <= self.memory[0] and self.state[0] == self.state[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", help="programs whose name has this in it, measured anew beside the others"
    )
    parser.add_argument("--most", type=int, default=65_536, metavar="TOKENS")
    given = parser.parse_args()
    found = kept() if given.only else {}
    for program in programs():
        if given.only in program:
            found[program] = measured(program, given.most)
            print(" ".join(line(found[program])), flush=True)
            write([found[name] for name in sorted(found)])


def kept() -> dict[str, Found]:
    """What was found before, by program."""
    path = RESULTS / "lengths.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return {row["program"]: Found(**row) for row in rows}


def programs() -> Iterator[str]:
    """Layers and models over tokens whose memories are no attention."""
    for entry in listed():
        try:
            graph = nldsl.load(entry.program, as_model=True, **hyper_of(entry.program, SIZES))
        except nldsl.ProgramError:
            continue
        tokens = [p.dtype for p in graph.tick.inputs] == ["int"]
        if tokens and not any(m.form == "attention" for m in graph.memories.values()):
            yield entry.program


def measured(program: str, most: int) -> Found:
    torch.manual_seed(0)
    module = nldsl.compile(program, as_model=True, **hyper_of(program, SIZES))
    times: list[float] = []
    memory: list[int] = []
    states: list[int] = []
    with torch.no_grad():
        for _ in range(2):  # bodies are traced
            _, state = module(text(PIECE))
        steps = [stepping(module, state)]
        state = None
        for i in range(most // PIECE):
            begun = time.perf_counter()
            _, state = module(text(PIECE), state)
            times.append(time.perf_counter() - begun)
            if i < ENDS or i >= most // PIECE - ENDS:  # a slow level writes in some pieces only
                memory.append(peak(partial(module, text(PIECE), state)))
                states.append(size(state))
        steps.append(stepping(module, state))
    first, last = (PIECE / statistics.median(t) for t in (times[:ENDS], times[-ENDS:]))
    most_bytes = max(memory[:ENDS]), max(memory[-ENDS:])
    sizes, seconds = (states[0], states[-1]), (steps[0], steps[1])
    return Found(program, most, (first, last), most_bytes, sizes, seconds, commit())


def text(ticks: int) -> Tensor:
    return torch.randint(VOCAB, (1, ticks))


def stepping(module: Any, state: Any) -> float:
    """Seconds of a token, the median of some."""
    taken = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        _, state = module(text(1), state)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[STEPS // 2 :])


def size(state: Any) -> int:
    return sum(x.nbytes for x in tree_leaves(state) if isinstance(x, Tensor))


def line(row: Found) -> list[str]:
    speed, steps = ([f"{x:,.0f}" for x in row.speed], [f"{1000 * x:.2f}" for x in row.step])
    memory = [f"{x / 2**20:.1f}" for x in row.memory]
    return [row.program, f"{row.tokens:,}", *speed, *memory, f"{row.state[1] / 2**10:,.0f}", *steps,
            "fine" if row.fine else "NOT FLAT"]  # fmt: skip


def write(found: list[Found]) -> None:
    RESULTS.mkdir(exist_ok=True)
    rows = {"machine": machine(), "rows": [asdict(row) for row in found]}
    (RESULTS / "lengths.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    said = ", ".join(f"{name} {value}" for name, value in machine().items())
    page = [
        "# What a token costs as texts get longer",
        f"Read in pieces of {PIECE:,} tokens, batch 1, float32, sizes {SIZES}, without gradients. first, last: medians "
        f"of {ENDS} pieces at the beginning and at the end; MiB: alive at once in a piece; ms a token: writing on, "
        f"after the first piece and after all. A row is fine where no median is more than {SLACK} times the other, and "
        "neither memory nor state grow.",
        f"Machine: {said}. Commits {', '.join(sorted({row.at for row in found}))}.",
        table(HEAD, map(line, found)),
    ]
    (RESULTS / "lengths.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
