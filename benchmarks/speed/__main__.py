"""Speed next to peers, side by side: forward and backward of one block, ours over theirs, and the memory of both.

    make bench                                       all cases; installs the peers first; takes hours
    python -m benchmarks.speed --only titans-16 hope --rounds 3
    python -m benchmarks.speed --only ttt-mlp --rounds 1 --lengths 512      a first look, in a minute or some

Each side is a process of its own. They are warmed up one after the other, then take turns in every round, with the
same threads and OpenMP's own wait policy, so nothing else should run on the machine. A ratio is that of one round; the
median is held against what is asked. Memory is counted at the longest length. Whatever can't run says why.

Where things are: `cases.py` the table of cases, `ours.py`, `peers.py` and `byhand*.py` their sides, `worker.py` the
processes, `measuring.py` the rounds, `memory.py` the counter, `page.py` the page.
Writes `benchmarks/results/speed.json` and `speed.md`, after every case anew; of some cases with --keep only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import torch

from benchmarks.reporting import RESULTS, commit, machine
from benchmarks.speed.cases import CASES
from benchmarks.speed.measuring import memory, speed
from benchmarks.speed.page import page


def main() -> None:
    given = options()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # of all processes to come
    torch.set_num_threads(given.threads)
    kept = RESULTS / "speed.json"
    known = json.loads(kept.read_text(encoding="utf-8"))["cases"] if given.only and given.keep else {}
    found: dict[str, Any] = {"machine": machine(), "rounds": given.rounds, "cases": known}
    for name in given.only or CASES:
        found["cases"][name] = measured(name, given) | {"commit": commit()}
        if given.keep or not given.only:
            found["cases"] = {n: found["cases"][n] for n in CASES if n in found["cases"]}
            RESULTS.mkdir(exist_ok=True)
            kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            (RESULTS / "speed.md").write_text(page(found), encoding="utf-8")
    print(page(found))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=list(CASES),
        metavar="NAME",
        help=f"of {', '.join(CASES)}",
    )
    parser.add_argument("--keep", action="store_true", help="write these beside the other cases as they stand")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument(
        "--lengths", type=whole, nargs="+", default=[512, 2048], metavar="TOKENS", help="multiples of 64"
    )
    parser.add_argument("--compile", action="store_true", help="our side by torch.compile in every case")
    return parser.parse_args()


def whole(text: str) -> int:
    """A length that every chunk divides."""
    if int(text) <= 0 or int(text) % 64:
        raise argparse.ArgumentTypeError(f"{text} is no multiple of 64")
    return int(text)


def measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    begun = time.perf_counter()

    def say(line: str) -> None:
        print(f"{name} {time.perf_counter() - begun:5.0f} s  {line}", flush=True)

    rows: dict[str, Any] = {"speed": [], "memory": []}
    for length in given.lengths:
        say(f"{length} tokens")
        rows["speed"].append(speed(CASES[name], length, given.rounds, given.threads, given.compile, say))
        if "failed" in rows["speed"][-1]:
            say(f"not measured: {rows['speed'][-1]['failed']}")
            return rows
    if not CASES[name].ours.compiled:
        rows["memory"].append(memory(CASES[name], max(given.lengths), given.threads, say))
    return rows


if __name__ == "__main__":
    main()
