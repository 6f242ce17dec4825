"""One case at one length: both sides in the same rounds, their turns changing places; then their memory."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from benchmarks.speed.cases import ENOUGH, KNOWN, YARDSTICK, Case
from benchmarks.speed.jobs import BATCH
from benchmarks.speed.worker import Failed, Worker

Say = Callable[[str], None]


def speed(case: Case, length: int, rounds: int, threads: int, all_compiled: bool, say: Say) -> dict[str, Any]:
    """Tokens per second of every round by side, and the median, least and most of the rounds' ratios. Where there is
    nothing to measure: why (`failed`)."""
    sides = {"ours": case.ours, "peer": case.peer}
    if length in case.known:
        sides["yardstick"] = YARDSTICK
    compiled = {n: side.compiled or (all_compiled and n == "ours") for n, side in sides.items()}
    found: dict[str, Any] = {"length": length, "compiled": compiled}
    try:
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for name in ("peer", *sides):  # the peer first: it may be absent
                if name not in workers:
                    begun = Worker(sides[name], length, threads, compiled[name])
                    workers[name] = stack.enter_context(begun)
                    say(f"{sides[name].name}: warm after {', '.join(f'{s:.1f}' for s in begun.warm())} s")
            rates: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(rounds):
                for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                    rates[name].append(BATCH * length / workers[name].time())
                say(f"round {number + 1} of {rounds}: " + ", ".join(f"{n} {r[-1]:,.0f}/s" for n, r in rates.items()))
            versions = [w.versions for w in workers.values()]
            found["load"] = round(os.getloadavg()[0], 1)
    except Failed as failed:
        return found | {"failed": str(failed)}
    found |= {"versions": {name: v for each in versions for name, v in each.items()}, "tokens_per_second": rates}
    found["ratio"] = spread(zip(rates["ours"], rates["peer"], strict=True))
    if length in case.faster:
        found |= {"asked": case.faster[length], "holds": found["ratio"]["median"] >= case.faster[length]}
    if "yardstick" in rates:
        share = spread(zip(rates["peer"], rates["yardstick"], strict=True), case.known[length] / KNOWN[length])
        found["peer_of_known"] = share | {"enough": share["median"] >= ENOUGH}
    return found


def spread(pairs: Iterable[tuple[float, float]], unit: float = 1.0) -> dict[str, float]:
    """Median, least and most of the ratios of pairs, in units."""
    ratios = [a / b / unit for a, b in pairs]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def memory(case: Case, length: int, threads: int, say: Say) -> dict[str, Any]:
    """The peaks of both sides in bytes, neither compiled, and ours over the peer's."""
    found: dict[str, Any] = {"length": length}
    try:
        for name, side in (("peer", case.peer), ("ours", case.ours)):
            with Worker(side, length, threads, compiled=False) as worker:
                worker.warm()
                found[name] = worker.memory()
                say(f"{side.name}: {found[name] / 2**20:,.1f} MiB at most")
    except Failed as failed:
        return found | {"failed": str(failed)}
    found["ratio"] = found["ours"] / found["peer"]
    if case.memory is not None:
        found |= {"asked": case.memory, "holds": found["ratio"] <= case.memory}
    return found
