"""A process for each side: its allocator, threads and compiled code are its own. It waits until it is its turn."""

from __future__ import annotations

import gc
import math
import multiprocessing
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from benchmarks.speed import peers
from benchmarks.speed.jobs import Job, Side
from benchmarks.speed.memory import peak

TURN = 0.5  # seconds of work that one turn should measure at least
STEADY = 0.8  # warm once of two steps in a row the quicker takes more than this share of the other
WARMING = 12  # steps at most


class Failed(Exception):
    """A side that can't be measured, and why."""


class Worker:
    """One side in a process of its own. Each method waits for its answer and raises Failed where there is none."""

    def __init__(self, side: Side, length: int, threads: int, compiled: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.side = side
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, side, length, threads, compiled), daemon=True)
        self.process.start()
        other.close()
        self.versions: dict[str, str] = self.answer()

    def warm(self) -> list[float]:
        """Seconds of the steps before the measurement: traced, compiled, caches filled."""
        return list(self.ask("warm"))

    def time(self) -> float:
        """Seconds of one step, the mean of as many as fill a turn."""
        return float(self.ask("time"))

    def memory(self) -> int:
        """The peak of one step, in bytes."""
        return int(self.ask("memory"))

    def ask(self, what: str) -> Any:
        self.connection.send(what)
        return self.answer()

    def answer(self) -> Any:
        try:
            kind, value = self.connection.recv()
        except EOFError:
            raise Failed(f"{self.side.name}: its process died, perhaps for lack of memory") from None
        if kind != "fine":
            raise Failed(f"{self.side.name}: {value}")
        return value

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.connection.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


def serve(connection: Connection, side: Side, length: int, threads: int, compiled: bool) -> None:
    """What runs in the process: answers until the pipe is closed."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        job = side.build(length)
        if compiled:
            job.module.compile()
        versions = {name: metadata.version(name) for name in side.packages}
        connection.send(("fine", versions))
        served = Served(job, side.warming)
        while True:
            connection.send(("fine", served.answers[connection.recv()]()))
    except EOFError:
        return
    except peers.Absent as absent:
        connection.send(("absent", str(absent)))
    except Exception:
        connection.send(("failed", traceback.format_exc()))


class Served:
    def __init__(self, job: Job, warming: int) -> None:
        self.job, self.warming = job, warming
        self.calls = 1
        self.answers: dict[str, Callable[[], Any]] = {"warm": self.warm, "time": self.time, "memory": self.memory}

    def warm(self) -> list[float]:
        taken = [self.once() for _ in range(self.warming)]
        while min(taken[-2:]) < STEADY * max(taken[-2:]) and len(taken) < WARMING:
            taken.append(self.once())
        self.calls = max(1, math.ceil(TURN / taken[-1]))
        return taken

    def time(self) -> float:
        gc.collect()
        begun = time.perf_counter()
        for _ in range(self.calls):
            self.job.step()
        return (time.perf_counter() - begun) / self.calls

    def memory(self) -> int:
        return peak(self.job.step)

    def once(self) -> float:
        begun = time.perf_counter()
        self.job.step()
        return time.perf_counter() - begun
