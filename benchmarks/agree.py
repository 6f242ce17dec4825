"""Thousands of random programs, and the whole library, compiled and in the reference interpreter: how far they differ.

    python benchmarks/agree.py --seeds 0 2000 --jobs 2 --minutes 15

A seed gives a program, how long its texts are, and one of the ways of comparing. What is far from the reference is
listed with its seed, unless it has an excuse. Writes `benchmarks/results/agree.json` and `agree.md`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import torch  # noqa: E402
from compiler.agreement import TOLERANCE, by_aot, by_graphs, by_inductor, by_recurrence, compiled, wrong  # noqa: E402
from compiler.comparisons import TEXTS, Compared, at_once, checked_text, in_pieces, of_text, padded  # noqa: E402
from compiler.excuses import excuse  # noqa: E402
from laws.programs import Program, seeded, valid  # noqa: E402
from reporting import commit, cpu, table  # noqa: E402

KINDS = {"output": "outputs", "losses": "losses", "weights": "states", "gradient": "gradients"}
WORST = 8


# The ways of comparing


def pieces(program: Program, choose: random.Random) -> Compared:
    """Token by token, and cut at random."""
    ticks = choose.randint(2, 13)
    return in_pieces(
        program, ticks, [range(1, ticks), sorted(choose.sample(range(1, ticks), choose.randint(1, ticks - 1)))]
    )


def gaps(program: Program, choose: random.Random) -> Compared:
    """Two calls, each with random gaps; each has some token."""
    masks = []
    for _ in range(2):
        mask = torch.tensor([[choose.random() < 0.7 for _ in range(choose.randint(1, 6))]])
        other = torch.tensor([[choose.random() < 0.7 for _ in range(mask.shape[1])]])
        mask = torch.cat([mask, other])
        masks.append(mask if mask.any() else ~mask)
    return padded(program, masks)


WAYS: dict[str, Callable[[Program, random.Random], Compared]] = {
    "all at once": lambda program, choose: at_once(program, choose.randint(1, 13)),
    "token by token": lambda program, choose: at_once(program, choose.randint(1, 13), by_recurrence),
    "from graphs alone": lambda program, choose: at_once(program, choose.randint(1, 9), by_graphs),
    "in pieces": pieces,
    "with gaps": gaps,
    "torch.compile": lambda program, choose: at_once(program, choose.randint(1, 6), by_aot),
}
SLOW = ("torch.compile",)  # only if asked for
LIBRARY: dict[str, tuple[Any, int]] = {"plain": (compiled, 9), "inductor": (by_inductor, 8)}


# One program


def of_seed(seed: int, way: str = "") -> dict[str, Any] | None:
    """What became of a seed; None if its program does not check."""
    torch.set_num_threads(1)
    program = seeded(seed)
    if not valid(program):
        return None
    usual = [w for w in WAYS if w not in SLOW]
    way = way or usual[seed % len(usual)]
    row: dict[str, Any] = {"seed": seed, "way": way}
    try:
        compared = WAYS[way](program, random.Random(seed))
    except Exception as error:  # the others go on
        return row | {"far": {}, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    far = wrong(compared.found)
    row["largest"] = by_kind(compared.found)
    if far:
        why = excuse(compared)
        row |= {"skipped": why} if why else {"far": far}
    return row


def by_kind(found: Mapping[str, float]) -> dict[str, float]:
    """The largest error of each kind."""
    largest: dict[str, float] = {}
    for name, error in found.items():
        kind = KINDS[name.split()[0].rstrip(",")]
        largest[kind] = max(largest.get(kind, 0.0), error)
    return largest


def of_library(ways: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Each program of the library in each way: plainly on a text with a ragged end, by inductor on whole chunks."""
    for way in ways:
        build, ticks = LIBRARY[way]
        for name in TEXTS:
            graph = checked_text(name)
            if graph is None:
                continue
            program = "/".join(Path(name).parts[-2:])
            print(f"{program}, {way}", file=sys.stderr, flush=True)
            torch._dynamo.reset()
            found = of_text(graph, ticks, build)
            yield {"program": program, "way": way, "largest": by_kind(found), "far": wrong(found)}


# Many


def run(first: int, count: int, jobs: int, minutes: float, way: str) -> list[dict[str, Any]]:
    """All rows of the seeds that there was time for."""
    begun, rows = time.monotonic(), []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, row in enumerate(pool.imap_unordered(partial(of_seed, way=way), range(first, first + count)), 1):
            if row is not None:
                rows.append(row)
            passed = time.monotonic() - begun
            far = sum("far" in r for r in rows)
            print(f"\r{done} of {count} seeds, {far} disagree, {passed:.0f} s ", end="", file=sys.stderr, flush=True)
            if passed > 60 * minutes:
                pool.terminate()
                break
    print(file=sys.stderr)
    return sorted(rows, key=lambda r: int(r["seed"]))


def summary(rows: Iterable[Mapping[str, Any]], library: list[dict[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    kept = [r for r in rows if "far" not in r and "skipped" not in r]
    skipped = Counter(r["skipped"] for r in rows if "skipped" in r)
    ways = {}
    for way in WAYS:
        own = [r for r in kept if r["way"] == way]
        if not own:
            continue
        largest = {k: max((r["largest"].get(k, 0.0) for r in own), default=0.0) for k in KINDS.values()}
        ways[way] = {"programs": len(own), "largest": largest}
    worst = sorted(kept, key=lambda r: -max(r["largest"].values(), default=0.0))[:WORST]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("torch", "nldsl")},
        "commit": commit(),
        "tolerance": TOLERANCE,
        "seeds": [rows[0]["seed"], rows[-1]["seed"]] if rows else [],
        "programs": len(rows),
        "kept": len(kept),
        "skipped": dict(skipped),
        "disagree": [r for r in rows if "far" in r],
        "ways": ways,
        "worst": worst,
        "library": library,
    }


# What is shown


def errors(largest: Mapping[str, float]) -> list[str]:
    return [f"{largest[k]:.0e}" if k in largest else "" for k in KINDS.values()]


def page(found: Mapping[str, Any]) -> str:
    skipped = ", ".join(f"{n} by {why}" for why, n in found["skipped"].items()) or "none"
    machine = f"{found['machine']['cpu']}, {found['machine']['cores']} cores"
    versions = ", ".join(f"{n} {v}" for n, v in found["versions"].items())
    ways = ([way, r["programs"], *errors(r["largest"])] for way, r in found["ways"].items())
    worst = ([r["seed"], r["way"], *errors(r["largest"])] for r in found["worst"])
    parts = [
        "# Compiled programs and the reference interpreter",
        f"{found['date']}, {machine}, commit {found['commit']}, {versions}",
        f"Seeds {' to '.join(map(str, found['seeds']))}: {found['programs']} programs. {found['kept']} agree to "
        f"{found['tolerance']:.0e}, {len(found['disagree'])} do not, {sum(found['skipped'].values())} are skipped "
        f"({skipped}). An error is the norm of the difference, relative to norms beyond one; the largest ones:",
        table(["way", "agree", *KINDS.values()], ways),
        "The worst of those that agree:",
        table(["seed", "way", *KINDS.values()], worst),
    ]
    if found["disagree"]:
        said = ([r["seed"], r["way"], r.get("error") or ", ".join(list(r["far"])[:3])] for r in found["disagree"])
        parts += ["Those that do not:", table(["seed", "way", "what"], said)]
    far = sum(bool(r["far"]) for r in found["library"])
    parts += [
        f"The library, the examples and the templates, with small sizes; {far} do not agree:",
        table(
            ["program", "way", *KINDS.values()],
            ([r["program"], r["way"], *errors(r["largest"])] for r in found["library"]),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 2000), metavar=("FIRST", "COUNT"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long, with what there is")
    parser.add_argument("--way", choices=list(WAYS), default="", help="compare in this way alone")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument(
        "--library", nargs="*", choices=list(LIBRARY), default=list(LIBRARY), help="ways for the library"
    )
    given = parser.parse_args()
    rows = run(*given.seeds, given.jobs, given.minutes, given.way)
    library: list[dict[str, Any]] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for row in chain((None,), of_library(given.library)):  # under inductor some take minutes: what there is is kept
        library += [row] if row is not None else []
        found = summary(rows, library)
        (given.out / "agree.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (given.out / "agree.md").write_text(page(found), encoding="utf-8")
    print(page(found))
    return 1 if found["disagree"] or any(r["far"] for r in library) else 0


if __name__ == "__main__":
    sys.exit(main())
