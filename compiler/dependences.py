"""What a tick's records need of each other, in the same tick or an earlier one (see `distribute.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nldsl.compiler import affine
from nldsl.compiler.components import components

from nldsl.graph import Body, Memory, Objective, Record, Stream

TOLD = affine.ROWS.keys() - {"matmul"}  # what closed forms make of products of two rows
Node = tuple[Record, str]  # a record, and which part of a learn: "gather", "write" or ""


def key_of(node: Node) -> str:
    return f"{node[0].id}/{node[1]}"


@dataclass(frozen=True)
class Shape:
    """What the distribution must know of a body. taken: the streams that each learn's rules take. concerned: the
    records that may have a say in what happens to a memory, in the order of the tick."""

    memories: Mapping[str, Memory]
    learns: Mapping[str, Objective]
    running: frozenset[str]
    held: Mapping[str, int]  # read where a learn holds them, for so many ticks
    taken: Mapping[str, frozenset[str]]
    concerned: tuple[Record, ...]

    @staticmethod
    def of(body: Body, bodies: Mapping[str, Body]) -> Shape:
        memories = {r.id: r for r in body.records if isinstance(r, Memory)}
        learns = {r.id: r for r in body.records if isinstance(r, Objective)}
        taught = {m for o in learns.values() if o.every.unit != "step" for m in o.memories}
        written = {r.memory for r in body.records if isinstance(r, Stream) and r.op == "assign"}
        states = {m.id for m in memories.values() if m.form == "state"}
        held = {m: o.hold_length for o in learns.values() if o.hold == "state" for m in o.memories}
        running = {m for m in taught | written | states if m in memories and memories[m].form != "attention"}
        taken = {o.id: frozenset(_taken(o, bodies)) for o in learns.values()}
        concerned = tuple(r for r in body.records if not isinstance(r, Stream) or _concerned(r))
        return Shape(memories, learns, frozenset(running), held, taken, concerned)

    def restless(self, memory: str, chunk: int) -> bool:
        """Whether a memory may restart inside a chunk."""
        known = self.memories[memory]
        return bool(known.reset_when) or bool(known.reset_every and not (chunk and known.reset_every % chunk == 0))

    def settled(self, memory: str, chunk: int) -> bool:
        """Whether a memory opens the same way at all ticks of a chunk."""
        holds = [o.hold_length for o in self.learns.values() if o.hold and memory in o.memories]
        return bool(chunk) and not self.restless(memory, chunk) and all(h % chunk == 0 for h in holds)


def _concerned(stream: Stream) -> bool:
    return stream.op in ("assign", "recall") or bool(stream.attr("serves"))


def _taken(learn: Objective, bodies: Mapping[str, Body]) -> Iterator[str]:
    for rule in (learn.optimizer, learn.retention):
        if rule is not None:
            yield from rule.args
            yield from (p.stream for _, _, b in rule.bodies for p in bodies[b].inputs if p.stream)


def nodes_of(body: Body) -> tuple[Node, ...]:
    """Everything that happens in a tick, in the order of the text; what waits for the next tick is left out."""
    found: list[Node] = []
    for record in body.records:
        if isinstance(record, Objective) and record.kind == "local":
            found += [(record, "gather"), (record, "write")]
        elif not isinstance(record, Stream) or not record.lag:
            found.append((record, ""))
    return tuple(found)


def origins(memory: Memory, shape: Shape) -> Iterator[str]:
    """The memories whose running value a memory starts from."""
    for body in memory.starts:
        for inner in body.records:
            if isinstance(inner, Stream) and inner.op == "weight":
                if inner.memory not in shape.running:
                    yield from origins(shape.memories[inner.memory], shape)
                yield inner.memory


def writers_of(nodes: Sequence[Node], shape: Shape) -> dict[str, list[str]]:
    """Who changes each memory, restarts included."""
    found: dict[str, list[str]] = {}
    for record, part in nodes:
        key = key_of((record, part))
        if isinstance(record, Memory) and record.id in shape.running:
            found.setdefault(record.id, [])
        elif isinstance(record, Objective) and part == "write" and record.every.unit != "step":
            for m in record.memories:
                found.setdefault(m, []).append(key)
        elif isinstance(record, Stream) and record.op == "assign":
            found.setdefault(record.memory, []).append(key)
    return found


class _Dependences:
    """The edges between some records inside a chunk: wherever one needs another, in its tick or an earlier one."""

    def __init__(self, nodes: Sequence[Node], shape: Shape, chunk: int, quiet: frozenset[str]) -> None:
        self.shape, self.chunk, self.quiet = shape, chunk, quiet
        self.graph: dict[str, set[str]] = {key_of(n): set() for n in nodes}
        self.writers = writers_of(nodes, shape)
        self.weights: dict[str, str] = {}  # streams that are weights which change from tick to tick -> their memory
        for memory in self.writers:
            self._written(memory)
        for node in nodes:
            self._needed(*node)
        self._recalls(nodes)
        self._products(nodes)

    def edge(self, source: str, target: str) -> None:
        if source in self.graph and target in self.graph:
            self.graph[source].add(target)

    def _written(self, memory: str) -> None:
        """Writers take turns, tick by tick."""
        opening, writers = f"{memory}/", self.writers[memory]
        for key in writers:
            self.edge(opening, key)
            if not self.shape.settled(memory, self.chunk):
                self.edge(key, opening)
            if memory not in self.quiet:
                for other in writers:
                    self.edge(key, other)
        if self.shape.restless(memory, self.chunk):
            self.edge(opening, opening)

    def turns(self, memory: str) -> str:
        """A node of the loop in which a memory changes, "" if it does not change inside a chunk."""
        if self.shape.restless(memory, self.chunk):
            return f"{memory}/"
        return "" if memory in self.quiet else next(iter(self.writers.get(memory, ())), "")

    def reads(self, memory: str, reader: str, held: bool, stream: bool = False) -> None:
        """A reader sees what was written before; what is held, or quiet, does not change inside a chunk. What is no
        stream looks at the memory itself, and so stays in its loop."""
        if memory not in self.shape.running:
            return
        self.edge(f"{memory}/", reader)
        if self.shape.restless(memory, self.chunk):
            self.edge(reader, f"{memory}/")
        if not held and memory not in self.quiet:
            for key in self.writers.get(memory, ()):
                self.edge(key, reader)
            if not stream:
                self.edge(reader, self.turns(memory))

    def held(self, length: int) -> bool:
        return bool(self.chunk and length and length % self.chunk == 0)

    def _needed(self, record: Record, part: str) -> None:
        key = key_of((record, part))
        if isinstance(record, Stream):
            self._stream(record, key)
        elif isinstance(record, Memory):
            self.edge(f"{record.reset_when}/", key)
            for other in origins(record, self.shape):
                self.reads(other, key, False)
        else:
            self._learn(record, part, key)

    def _recalls(self, nodes: Sequence[Node]) -> None:
        """Where attention keeps its pairs tick by tick, they are read tick by tick: old ones are forgotten."""
        recalls = [r for r, _ in nodes if isinstance(r, Stream) and r.op == "recall"]
        if not recalls:
            return
        turning = {key for found in components(self.graph) if len(found) > 1 for key in found}
        for record in recalls:
            for learn in self.shape.learns.values():
                if record.memory in learn.memories and f"{learn.id}/" in turning:
                    self.edge(f"{record.id}/", f"{learn.id}/")

    def _products(self, nodes: Sequence[Node]) -> None:
        """Products of two rows that are made for a write are made where it is: a matrix for each of all ticks would be
        far more than the rows."""
        made = {r.id: r for r, _ in nodes if isinstance(r, Stream)}
        for record in [r for r in made.values() if r.op == "assign" and r.every == 1]:
            for name in _of_products(str(record.args[0]), made):
                self.edge(self.turns(record.memory), f"{name}/")

    def _stream(self, record: Stream, key: str) -> None:
        for arg in record.args:
            if isinstance(arg, str):
                self.edge(f"{arg}/", key)
                if arg in self.weights:  # whoever uses a running weight itself stays in its loop
                    self.edge(key, self.turns(self.weights[arg]))
        if record.op == "recall":
            self.edge(f"{record.memory}/", key)
            for learn in self.shape.learns.values():
                if record.memory in learn.memories:
                    self.edge(f"{learn.id}/", key)
        elif record.op == "weight":
            held = record.mode == "seen" and self.held(self.shape.held.get(record.memory, 0))
            self.reads(record.memory, key, held, stream=True)
            if record.memory not in self.shape.running:  # its start is what it is
                for other in origins(self.shape.memories[record.memory], self.shape):
                    self.reads(other, key, False)
            if record.memory in self.shape.running and not held and self.turns(record.memory):
                self.weights[record.id] = record.memory
                self.edge(key, self.turns(record.memory))
        elif record.attr("serves"):
            self.edge(f"{record.attr('serves')}/", key)
            if self.shape.restless(str(record.attr("serves")), self.chunk):
                self.edge(key, f"{record.attr('serves')}/")

    def _learn(self, record: Objective, part: str, key: str) -> None:
        for needed in self._inputs(record, part):
            self.edge(f"{needed}/", key)
        if record.kind == "pairs":
            self.edge(f"{record.memories[0]}/", key)
        if record.kind != "local":
            return
        if part == "write":
            self.edge(f"{record.id}/gather", key)
        if (part == "write") == _at_the_write(record):
            held = self.held(record.hold_length)
            for m in record.memories:
                self.reads(m, key, held)
            for m, mode in _inside(record):
                seen = mode == "seen" and self.held(self.shape.held.get(m, 0))
                self.reads(m, key, seen or (mode == "anchor" and held))

    def _inputs(self, record: Objective, part: str) -> Iterator[str]:
        """The streams that a learn, or a part of it, needs."""
        yield from record.pair
        if part != "write" or _at_the_write(record):
            yield from (p.stream for b in record.bodies for p in b.inputs if p.stream)
        yield from (v for v in (record.when, record.over_weight, *record.weights) if isinstance(v, str))
        if part != "gather":
            yield from self.shape.taken[record.id]


def dependences(
    nodes: Sequence[Node], shape: Shape, chunk: int = 0, quiet: frozenset[str] = frozenset()
) -> dict[str, set[str]]:
    """From each node's key to the keys of those that need it."""
    return _Dependences(nodes, shape, chunk, quiet).graph


def _of_products(name: str, made: Mapping[str, Stream]) -> set[str]:
    """A stream and those that it is made of, where they are sums of products of two rows."""
    record = made.get(name)
    if record is None or record.op not in TOLD:
        return set()
    inside = set() if record.op == "outer" else set().union(*(_of_products(str(a), made) for a in record.args))
    return inside | {name} if inside or record.op == "outer" else set()


def _at_the_write(record: Objective) -> bool:
    return bool(record.over) or record.times > 1


def _inside(record: Objective) -> set[tuple[str, str]]:
    """The memories that a learn's objectives read, and how."""
    return {
        (s.memory, s.mode)
        for b in record.bodies
        for s in b.records
        if isinstance(s, Stream) and s.op == "weight" and s.mode != "self"
    }
