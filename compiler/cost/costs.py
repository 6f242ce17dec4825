"""The cost of a program: a training step, reading on by one token, by level and by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from nldsl.compiler.cost.measured import Measured
from nldsl.compiler.cost.reading import reading
from nldsl.compiler.cost.rounds import Rounds, rounds_of
from nldsl.compiler.cost.runs import Subject

from nldsl.clocks import shown
from nldsl.graph import LevelGraph
from nldsl.parameters import learned_parameters
from nldsl.table import level_table


@dataclass(frozen=True)
class Row:
    """One level or block. parameters: learned numbers. state: bytes per sequence. The others are per token: FLOPs of
    matrix products, and bytes that operators read and write."""

    name: str
    parameters: int
    state: float
    train_flops: float
    train_bytes: float
    decode_flops: float
    decode_bytes: float


@dataclass(frozen=True)
class Cost:
    """batch, length: sequences and tokens of a training step; decoding is counted behind that many tokens. Training a
    block hands gradients on to its inputs, as inside a network. peak: the most bytes alive during a training step, with
    parameters, gradients and what optimizers keep; decode_peak: while a token is read. Rows: `levels` fastest first,
    what belongs to none at the end; `blocks` in the order of the text."""

    program: str
    batch: int
    length: int
    dtype: str
    levels: tuple[Row, ...]
    blocks: tuple[Row, ...]
    peak: float
    decode_peak: float

    @property
    def total(self) -> Row:
        columns = [getattr(row, name) for name in COLUMNS for row in self.blocks]
        size = len(self.blocks)
        return Row("total", *(sum(columns[i * size : (i + 1) * size]) for i in range(len(COLUMNS))))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"total": asdict(self.total)}


COLUMNS = ("parameters", "state", "train_flops", "train_bytes", "decode_flops", "decode_bytes")


def cost(
    graph: LevelGraph,
    shorter: Callable[[int], LevelGraph | None] = lambda rounds: None,
    batch: int = 1,
    length: int = 512,
    dtype: torch.dtype = torch.float32,
    say: Callable[[str], None] = lambda what: None,
) -> Cost:
    """What a checked program costs. Nothing is computed: it runs on the meta device. say: is told what is counted.

    shorter: the program with at most so many rounds of each `repeat`, if there is one. A deep program is then run with
    two or three rounds, as long as the last two of them do the same, and as it is otherwise.
    """
    for rounds in (rounds_of(graph, shorter), Rounds.of(graph)):
        subject = Subject(rounds.graph, batch, dtype)
        say("counting a training step")
        train = subject.training(length)
        say("counting the reading of one more token")
        decode = reading(subject, length)
        say("counting what is alive at once")
        train.alive = _alive(rounds.graph, batch, length, dtype)
        if rounds.alike(train) and rounds.alike(decode):
            break
    train, decode = rounds.whole(train), rounds.whole(decode)
    owners = rounds.owners
    parameters: dict[str, int] = {}
    for name, p in learned_parameters(rounds.graph).items():
        parameters[name] = p.size * rounds.factor(name)

    def rows(name: Callable[[str], Any], titles: dict[Any, str]) -> tuple[Row, ...]:
        trained, decoded = train.by(name), decode.by(name)
        own = Measured(state={n: float(size) for n, size in parameters.items()}).by(name).state
        return tuple(
            Row(
                title,
                int(own.get(key, 0)),
                decoded.state.get(key, 0) / batch,
                *trained.per(key, batch * length),
                *decoded.per(key, batch),
            )
            for key, title in titles.items()
            if key in own or key in trained.works or key in decoded.works or key in decoded.state
        )

    table = level_table(graph)
    levels = {row.number: f"{row.number} {row.name or shown(row.period)}" for row in table} | {0: "rest"}
    blocks = dict.fromkeys(map(owners.block, [*owners.names, ""]))
    counts = rounds.counts()
    titles = {b: f"{b} x{counts[b]}" if counts.get(b, 1) > 1 else b for b in blocks}
    return Cost(
        graph.program,
        batch,
        length,
        str(dtype).removeprefix("torch."),
        rows(owners.level, levels),
        rows(owners.block, titles),
        train.peak,
        decode.peak,
    )


def _alive(graph: LevelGraph, batch: int, length: int, dtype: torch.dtype) -> dict[str, float]:
    """What is alive at the worst moment of a step, by record, with the bodies that run. The first step traces them."""
    subject = Subject(graph, batch, dtype, owned=False)
    subject.training(length)
    return subject.training(length).alive
