"""What was found, as a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.reporting import table
from benchmarks.speed.cases import CASES, ENOUGH, YARDSTICK
from benchmarks.speed.jobs import BATCH, DIM, HEADS

Found = Mapping[str, Any]

SPEED = ["case", "tokens", "ours, tokens/s", "the peer, tokens/s", "ratio", "least, most", "asked", "", "load"]
MEMORY = ["case", "tokens", "ours, MiB", "the peer, MiB", "ratio", "asked", ""]
PEERS = ["peer", "tokens", f"tokens/s, in shares of its own figure by the {YARDSTICK.name}'s", "least, most", ""]


def page(found: Found) -> str:
    versions = {
        n: v for case in found["cases"].values() for row in case["speed"] for n, v in row.get("versions", {}).items()
    }
    said = ", ".join(f"{name} {value}" for name, value in (found["machine"] | versions).items())
    parts = [
        "# How fast, next to peers",
        f"Forward and backward of one block (of Hope: of a model): dim {DIM}, {HEADS} heads, batch {BATCH}, float32. "
        "Each side is a process of its own, with the same threads and the same OpenMP wait policy; in each of "
        f"{found['rounds']} rounds all take their turn, and change places from round to round. Speeds are medians; a "
        "ratio is that of one round, and what is asked is asked of the median. `*`: by torch.compile; all else eager. "
        "The load is the machine's while it was measured: beyond the threads, others were at work.",
        f"Machine: {said}.",
        table(SPEED, speeds(found)),
        "Memory: the most that was allocated at once in one forward and backward beyond weights and inputs, counted on "
        "what each operation returns; not of a compiled side, whose code allocates out of sight.",
        table(MEMORY, memories(found)),
        f"Is a peer run rightly? It reaches at least {ENOUGH:.0%} of what it reached alone, on a machine where the "
        f"{YARDSTICK.name} was as fast as here.",
        table(PEERS, peers(found)),
        "What the two sides are, and where they differ:",
        table(["case", "ours", "the peer", "differs in", "measured at"], sides(found)),
    ]
    missing = failures(found)
    return "\n\n".join([*parts, *(["Not measured:", missing] if missing else [])]) + "\n"


def speeds(found: Found) -> Iterator[list[str]]:
    for name, case in found["cases"].items():
        for row in measured(case["speed"]):
            rates = {side: statistics.median(r) for side, r in row["tokens_per_second"].items()}
            shown = [f"{rates[side]:,.0f}{'*' if row['compiled'][side] else ''}" for side in ("ours", "peer")]
            asked = f"{row['asked']:g}" if "asked" in row else ""
            ratio = [f"{row['ratio']['median']:.2f}", between(row["ratio"])]
            yield [name, row["length"], *shown, *ratio, asked, holds(row), row["load"]]


def memories(found: Found) -> Iterator[list[str]]:
    for name, case in found["cases"].items():
        for row in measured(case["memory"]):
            shown = [f"{row[side] / 2**20:,.1f}" for side in ("ours", "peer")]
            asked = f"{row['asked']:.3g}" if "asked" in row else ""
            yield [name, row["length"], *shown, f"{row['ratio']:.3f}", asked, holds(row)]


def peers(found: Found) -> Iterator[list[str]]:
    for name, case in found["cases"].items():
        for row in measured(case["speed"]):
            if "peer_of_known" in row:
                share = row["peer_of_known"]
                right = "rightly" if share["enough"] else "WRONGLY"
                yield [CASES[name].peer.name, row["length"], f"{share['median']:.2f}", between(share), right]


def sides(found: Found) -> Iterator[list[str]]:
    for name in found["cases"]:
        case = CASES[name]
        yield [name, case.ours.name, case.peer.name, case.differs, found["cases"][name]["commit"]]


def failures(found: Found) -> str:
    rows = (
        [f"- {name}, {row['length']} tokens:", *(f"      {line}" for line in row["failed"].splitlines())]
        for name, case in found["cases"].items()
        for row in (*case["speed"], *case["memory"])
        if "failed" in row
    )
    return "\n".join(line for row in rows for line in row)


def measured(rows: list[Found]) -> Iterator[Found]:
    return (row for row in rows if "failed" not in row)


def between(spread: Mapping[str, float]) -> str:
    return f"{spread['least']:.2f}, {spread['most']:.2f}"


def holds(row: Found) -> str:
    return {None: "", True: "holds", False: "NOT YET"}[row.get("holds")]
