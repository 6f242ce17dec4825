"""How fast modules train: tokens per second of whole steps (forward, backward, optimizer), plain and compiled.

    python benchmarks/training.py [--compile] [--rounds 5] [--threads 2]

One process, the programs in turn, medians over the rounds. Writes `benchmarks/results/training.json` and `training.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from reporting import RESULTS, machine

import nldsl

SHAPE = {"dim": 256, "heads": 4, "depth": 1}
BATCH, LENGTH = 2, 512

# name -> program; all of one layer, dim 256, 4 heads
PROGRAMS = {
    "Hope": "std.hope:Hope",
    "Titans (LMM)": "std.titans:Titans",
    "TTT-MLP": "std.ttt:DeepTTT",
    "Gated DeltaNet": "std.delta:GatedDeltaTransformer",
    "Transformer": "std.transformer:Transformer",
}


def step(module: Any, optimizers: list[Any], ids: torch.Tensor) -> float:
    """Seconds of one training step."""
    begun = time.perf_counter()
    for optimizer in optimizers:
        optimizer.zero_grad()
    module.backward(ids)
    for optimizer in optimizers:
        optimizer.step()
    return time.perf_counter() - begun


def measured(rounds: int, compiled: bool) -> dict[str, list[float]]:
    """Tokens per second of every round, by program; the programs take turns."""
    ids = torch.randint(256, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    modules = {name: nldsl.compile(program, **SHAPE) for name, program in PROGRAMS.items()}
    if compiled:
        for module in modules.values():
            module.compile()
    optimizers = {name: module.optimizers() for name, module in modules.items()}
    for name, module in modules.items():  # traces and compiles
        for _ in range(2):
            print(f"warming up {name}: {step(module, optimizers[name], ids):.1f} s", flush=True)
    found: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(rounds):
        for name, module in modules.items():
            found[name].append(BATCH * LENGTH / step(module, optimizers[name], ids))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="hand the bodies to torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found, about = measured(options.rounds, options.compile), machine()
    kind = "training_compiled" if options.compile else "training"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{kind}.json").write_text(json.dumps({"machine": about, "tokens_per_second": found}, indent=1) + "\n")
    rows = [f"| {name} | {statistics.median(r):.0f} | {min(r):.0f} | {max(r):.0f} |" for name, r in found.items()]
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    text = [
        f"Whole training steps of one-layer models, dim 256, 4 heads, batch {BATCH}, length {LENGTH}, float32"
        + (", compiled." if options.compile else "."),
        f"Machine: {said}.",
        "",
        "| program | tokens/s, median | least | most |",
        "|---|---|---|---|",
        *rows,
    ]
    (RESULTS / f"{kind}.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
