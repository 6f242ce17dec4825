"""Every program of the standard library: is it its equations, does it train, does it write what it reads, is it well?

    python benchmarks/check_library.py [--only delta] [--steps 20]

A rule is compared with its oracle, a block with its rule and what is around it, on many draws; each block and model is
trained for some steps on real text, and writes on from a prompt, token by token and by reading all anew each time. The
doctor examines each over a long text, at its initial values.
Writes `benchmarks/results/library.json` and `library.md`, and what `nldsl list` shows: `stdlib/checked.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import torch  # noqa: E402
from library.examined import examined, hyper_of, wrong  # noqa: E402
from nldsl.compiler.training.data import text_of  # noqa: E402
from reporting import commit, table  # noqa: E402
from stdlib.comparing import TOLERANCE, Row, differences, wiring  # noqa: E402
from stdlib.losses_deep import learning_from_loss  # noqa: E402

import nldsl  # noqa: E402
from nldsl.listing import Entry, listed  # noqa: E402
from stdlib import rows_deep, rows_linear, test_layers_deep, test_rows_linear  # noqa: E402

SIZES = {"dim": 16, "d": 8, "heads": 2, "depth": 1, "chunk": 8, "periods": [16, 32]}
BATCH, LENGTH, PROMPT, WRITTEN = 4, 64, 8, 24
EXAMINED = 1024  # tokens that the doctor lets a program read
Check = tuple[str, Callable[[], float]]  # where its oracle is in the tests, and the largest difference of its draws


def checks() -> Iterator[tuple[str, Check]]:
    """Every comparison that the tests make, by the program that it is of."""
    for module in (rows_linear, rows_deep):
        for name, row in module.ROWS.items():
            yield row.program, (place(module, name), partial(of_rule, row))
    for module, blocks in ((test_rows_linear, test_rows_linear.BLOCKS), (test_layers_deep, test_layers_deep.LAYERS)):
        for program, (by_hand, hyper) in blocks.items():
            name = program.rpartition(":")[2]
            yield program, (place(module, name), partial(of_block, program, by_hand, {"dim": 8} | hyper))
    for name, (program, by_hand, hyper) in test_layers_deep.MODELS.items():
        yield f"std.{program}", (place(test_layers_deep, name), partial(of_model, program, by_hand, hyper))


def place(module: ModuleType, name: str) -> str:
    return f"tests/stdlib/{module.__name__.rpartition('.')[2]}.py: {name}"


def of_rule(row: Row) -> float:
    draws = [(1, 1), (2, 5), (3, 9), (4, 21)]
    return max(max(differences(row, ticks, seed=seed, d=d).values()) for seed, (d, ticks) in enumerate(draws))


def of_block(program: str, by_hand: Callable[..., Any], hyper: dict[str, Any]) -> float:
    return max(wiring(program, by_hand, **hyper).values())


def of_model(program: str, by_hand: Callable[..., Any], hyper: dict[str, Any]) -> float:
    return max(learning_from_loss(f"std.{program}", by_hand, 11, **hyper).values())


@dataclass
class Found:
    """error: the largest difference from the equations, None where others stand for it. losses: first and last of
    training, None for what is no block or model over tokens. same: whether both ways of writing wrote the same. ill:
    what the doctor finds wrong, by memory, learn, gate or parameter."""

    program: str
    oracle: str = ""
    error: float | None = None
    losses: tuple[float, float] | None = None
    same: bool | None = None
    ill: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        right = self.error is None or self.error <= TOLERANCE
        trained = self.losses is None or all(map(math.isfinite, self.losses))
        return right and trained and self.same is not False and not self.ill


CHECKS = list(checks())


def of_entry(entry: Entry, steps: int) -> Found:
    begun, found = time.perf_counter(), Found(entry.program)
    own = [check for program, check in CHECKS if program == entry.program]
    if own:
        found.oracle, found.error = own[0][0], max(error() for _, error in own)
    if over_tokens(entry.program):
        module = built(entry.program, torch.float32)
        losses = trained(module, steps)
        found.losses = (losses[0], losses[-1])
        found.same = writes_the_same(built(entry.program, torch.float64))
    found.ill = wrong(examined(entry.program, EXAMINED))
    found.seconds = time.perf_counter() - begun
    return found


def over_tokens(program: str) -> bool:
    """Whether it is a model over tokens, or can be made one."""
    try:
        graph = nldsl.load(program, as_model=True, **hyper_of(program, SIZES))
    except nldsl.ProgramError:
        return False
    return all(port.dtype == "int" for port in graph.tick.inputs)


def built(program: str, dtype: torch.dtype) -> nldsl.CompiledModule:
    return nldsl.compile(program, as_model=True, dtype=dtype, **hyper_of(program, SIZES))


def trained(module: nldsl.CompiledModule, steps: int) -> list[float]:
    text = text_of(()).tokens.long()
    random = torch.Generator().manual_seed(0)
    optimizers, losses = module.optimizers(), []
    for _ in range(steps):
        starts = torch.randint(len(text) - LENGTH, (BATCH,), generator=random).tolist()
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses.append(float(module.backward(torch.stack([text[s : s + LENGTH] for s in starts]))[0]))
        for optimizer in optimizers:
            optimizer.step()
    return losses


@torch.no_grad()
def writes_the_same(module: nldsl.CompiledModule) -> bool:
    """The likeliest tokens after a prompt: one at a time with the state carried, and all read anew for each."""
    prompt = text_of(()).tokens[:PROMPT].long()[None]
    carried, (logits, state) = prompt, module(prompt)
    for _ in range(WRITTEN):
        new = logits[:, -1:].argmax(-1)
        carried = torch.cat([carried, new], dim=1)
        logits, state = module(new, state)
    anew = prompt
    for _ in range(WRITTEN):
        anew = torch.cat([anew, module(anew)[0][:, -1:].argmax(-1)], dim=1)
    return torch.equal(carried, anew)


def page(rows: list[Found]) -> str:
    cells = []
    for r in rows:
        error = "" if r.error is None else f"{r.error:.0e}"
        losses = "" if r.losses is None else f"{r.losses[0]:.2f} → {r.losses[1]:.2f}"
        same = {None: "", True: "yes", False: "NO"}[r.same]
        ill = "; ".join(f"{name}: {verdict}" for name, verdict in r.ill.items()) or "fine"
        cells.append([r.program, r.oracle, error, losses, same, ill, "fine" if r.fine else "NOT FINE"])
    head = ["program", "oracle", "largest error", "loss, nats", "writes the same", "doctor", ""]
    return "\n\n".join(
        [
            "# The standard library",
            f"Commit {commit()}, torch {torch.__version__}. Errors are norms of differences from the equations, "
            "relative to norms beyond one, of answers, states and gradients in float64; "
            f"{TOLERANCE:.0e} is allowed. Losses are those of the first and the last of some training steps on {BATCH} "
            f"pieces of {LENGTH} bytes. The doctor (`nldsl doctor`) lets each program read {EXAMINED:,} tokens at its "
            "initial values, and rules at rates as a layer around them starts with.",
            table(head, cells),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="programs with this in their name; nothing is kept")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    rows = []
    for entry in listed():
        if given.only in entry.program:
            rows.append(of_entry(entry, given.steps))
            print(f"{'fine' if rows[-1].fine else 'NOT FINE':9} {rows[-1].seconds:5.1f} s  {entry.program}", flush=True)
    if not given.only:
        results, text = HERE / "results", page(rows)  # of the commit as it is, before results change it
        results.mkdir(exist_ok=True)
        (results / "library.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8")
        (results / "library.md").write_text(text + "\n", encoding="utf-8")
        kept = {r.program: {"oracle": r.oracle, "error": r.error} for r in rows if r.error is not None}
        (HERE.parent / "stdlib" / "checked.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0 if all(r.fine for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
