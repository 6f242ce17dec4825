"""What the level table says of each member of a level: its numbers, whose values it uses, how far back it learns.

Numbers are counted at the reference interpreter's meaning, between two ticks: running copies (two of what is read
under a hold: the held one and the running one), open windows, kept pairs, the last inputs of convolutions. What waits
only until a loss segment closes (its opening states and inputs, rule 12) is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nldsl.clocks import order
from nldsl.graph import Body, LevelGraph, Memory, Objective, Rule, Stream
from nldsl.levels import Feeding, starts_of
from nldsl.parameters import has_parameters

Uses = frozenset[str]
NONE = "none"


@dataclass
class Facts:
    """parameters: learned numbers. state: numbers kept per sequence. grows: those that every tick adds. shared: numbers
    that the optimizer of a training step keeps, once for all sequences. reads: the members whose values its write
    uses. reach: how far back its gradient goes."""

    parameters: int = 0
    state: int = 0
    grows: int = 0
    shared: int = 0
    reads: set[str] = field(default_factory=set)
    reach: str = NONE


def facts_of(graph: LevelGraph, found: Feeding) -> dict[str, Facts]:
    """The facts of every member, by its id."""
    count = _Count(graph, found)
    count.body(graph.tick, "", 1, True)
    uses = _Uses(graph, found, count.facts)
    uses.walk(graph.tick, "", {})
    uses.starts()
    for member, facts in count.facts.items():
        facts.reads.discard(member)
    return count.facts


def size(memory: Memory) -> int:
    return max(1, memory.heads) * sum(math.prod(leaf.shape) for leaf in memory.leaves)


def segment(graph: LevelGraph) -> int:
    """The length of the model's loss segments, 0 where nothing learns from the loss on a token clock."""
    loss = (o for o in graph.objectives if o.kind == "loss" and o.every.unit == "token")
    return min((o.every.count for o in loss), default=0)


def rules(learn: Objective) -> Iterable[Rule]:
    return (rule for rule in (learn.optimizer, learn.retention) if rule is not None and rule.bodies)


class _Count:
    """Parameters, states and reach. `copies`: how many heads a rule's body serves; `learned`: whether the starts of
    what is inside are parameters."""

    def __init__(self, graph: LevelGraph, found: Feeding) -> None:
        self.graph, self.members = graph, found.members
        self.facts = {member: Facts() for member in found.members}
        self.segment = segment(graph)

    def body(self, body: Body, prefix: str, copies: int, learned: bool) -> None:
        streams = {r.id: r for r in body.records if isinstance(r, Stream)}
        sizes = {p.id: max(1, p.heads) * math.prod(p.shape) for p in body.inputs}
        sizes |= {s.id: max(1, s.heads) * math.prod(s.shape) for s in streams.values()}
        memories = {r.id: r for r in body.records if isinstance(r, Memory)}
        for record in body.records:
            match record:
                case Memory():
                    self.memory(record, prefix, copies, learned)
                case Stream() if record.op.startswith("window_") and record.every > 1:
                    self.keep(prefix + record.attr("serves", ""), copies * sizes[str(record.args[0])])
                case Stream(op="causal_conv"):
                    width = int(streams[str(record.args[1])].shape[0])
                    self.tail(record, streams, prefix, copies * (width - 1) * sizes[str(record.args[0])])
                case Objective():
                    self.window(record, memories, sizes, prefix, copies)
                    self.reach(record, prefix)
                    self.inside(record, memories, prefix, copies, learned)

    def memory(self, memory: Memory, prefix: str, copies: int, learned: bool) -> None:
        facts = self.facts[prefix + memory.id]
        if learned and has_parameters(memory):
            facts.parameters += copies * size(memory)
        if memory.form != "attention":
            self.keep(prefix + memory.id, copies * size(memory), own=not prefix)
        elif memory.window:
            facts.state += copies * memory.window * _pair(memory)
        else:
            facts.grows += copies * _pair(memory)

    def keep(self, member: str, numbers: int, own: bool = False) -> None:
        """Numbers that a member keeps: per sequence on a token clock, once inside a training step's rules. own: a
        memory of the program, which on a step clock is its parameters and nothing besides."""
        if member not in self.facts:
            member = next(iter(self.facts), member)
        unit = self.members[member].period.unit if member in self.facts else ""
        if unit == "token":
            self.facts[member].state += numbers
        elif unit in ("step", "update") and not own:
            self.facts[member].shared += numbers

    def tail(self, conv: Stream, streams: Mapping[str, Stream], prefix: str, numbers: int) -> None:
        """The last inputs of a convolution stand with its kernel's memory, whatever that one's clock is."""
        open_, memory = [str(conv.args[1])], ""
        while open_ and not memory:
            stream = streams.get(open_.pop())
            if stream is not None:
                memory = stream.memory
                open_ += [a for a in stream.args if isinstance(a, str)]
        place = prefix + memory if prefix + memory in self.facts else next(iter(self.facts), "")
        if place:
            self.facts[place].state += numbers

    def window(
        self, learn: Objective, memories: Mapping[str, Memory], sizes: Mapping[str, int], prefix: str, copies: int
    ) -> None:
        """The held copy, the window's sum of gradients, the inputs or pairs that wait."""
        if learn.every.unit == "step":
            return
        sums = learn.every.count > (self.segment if learn.kind == "loss" else 1) and not learn.over
        for name in learn.memories:
            if name not in memories:
                continue
            if learn.kind == "pairs":
                waiting = _pair(memories[name]) * (learn.every.count - 1)
                self.facts[prefix + name].state += copies * waiting
                continue
            times = (1 if learn.hold else 0) + (1 if sums and learn.times == 1 else 0)
            self.keep(prefix + name, copies * times * size(memories[name]))
        ticks = learn.over - 1 if learn.over else learn.every.count - 1 if learn.times > 1 else 0
        inputs = {p.stream for b in learn.bodies for p in b.inputs if p.stream}
        if ticks and learn.memories:
            self.keep(prefix + learn.memories[0], copies * ticks * sum(sizes[i] for i in inputs))

    def reach(self, learn: Objective, prefix: str) -> None:
        if not prefix and starts_of(learn) in self.facts:
            self.facts[starts_of(learn)].reach = self.how_far(learn, "token")
        for name in learn.memories:
            member = self.members.get(prefix + name)
            fastest = min((o.every for o in self.learns(prefix, name)), key=order, default=learn.every)
            starts = learn.every.unit == "step" and member is not None and member.period.unit != "step"
            if member is not None and not starts and (prefix or learn.every == fastest):
                self.facts[member.id].reach = self.how_far(learn, "update" if prefix else "token")

    def learns(self, prefix: str, memory: str) -> Iterable[Objective]:
        return () if prefix else (o for o in self.graph.objectives if memory in o.memories)

    def how_far(self, learn: Objective, unit: str) -> str:
        if learn.kind == "pairs":
            return NONE
        if learn.every.unit == "step":
            return f"{learn.through} tokens" if learn.through else "whole sequence"
        if learn.kind == "loss":
            back = -(-learn.through // self.segment) * self.segment
            return f"last {back} tokens" if learn.through else f"segment of {self.segment}"
        if learn.over:
            return f"last {learn.over} {unit}s"
        return f"chunk of {learn.hold_length}" if learn.hold else f"its {'tick' if unit == 'token' else unit}"

    def inside(self, learn: Objective, memories: Mapping[str, Memory], prefix: str, copies: int, learned: bool) -> None:
        """The memories and states inside the learn's rules, one set per weight and head served."""
        learned = learned and learn.every.unit != "step"
        for rule in rules(learn):
            for memory, _, name in rule.bodies:
                heads = max(1, memories[memory].heads) if memory in memories else 1
                self.body(self.graph.bodies[name], f"{prefix}{learn.id} {rule.name}.", copies * heads, learned)


def _pair(memory: Memory) -> int:
    return max(1, memory.heads) * (memory.key_size + memory.value_size)


class _Uses:
    """Whose values each member's write uses, fresh or as they stood."""

    def __init__(self, graph: LevelGraph, found: Feeding, facts: Mapping[str, Facts]) -> None:
        self.graph, self.members, self.facts = graph, found.members, facts

    def note(self, member: str, uses: Uses) -> None:
        if member in self.facts:
            self.facts[member].reads |= uses

    def walk(self, body: Body, prefix: str, given: Mapping[str, Uses]) -> dict[str, Uses]:
        """For every stream the members that its value comes from."""
        up: dict[str, Uses] = dict(given)

        def of(names: Iterable[object]) -> Uses:
            return frozenset().union(*(up.get(n, frozenset()) for n in names if isinstance(n, str)))

        for record in body.records:
            if isinstance(record, Stream):
                own = frozenset({prefix + record.memory}) if record.op in ("weight", "recall") else frozenset()
                up[record.id] = own | of(record.args)
                if record.op == "assign":
                    self.note(prefix + record.memory, up[record.id])
        for record in body.records:
            if isinstance(record, Objective):
                said = (*record.pair, record.when, *record.weights, record.over_weight)
                uses = of((*(p.stream for b in record.bodies for p in b.inputs), *said))
                uses |= of((self.graph.loss,)) if record.kind == "loss" else frozenset()
                inside = [s for b in record.bodies for s in b.records if isinstance(s, Stream) and s.memory]
                self.learn(record, uses | {prefix + s.memory for s in inside}, prefix, up)
        return up

    def learn(self, learn: Objective, uses: Uses, prefix: str, up: Mapping[str, Uses]) -> None:
        own = frozenset(prefix + m for m in learn.memories)
        reads = uses
        for rule in rules(learn):
            args = {f"arg{i}": up.get(arg, frozenset()) for i, arg in enumerate(rule.args)}
            for name in dict.fromkeys(body for _, _, body in rule.bodies):
                body = self.graph.bodies[name]
                given = {p.id: up.get(p.stream, frozenset()) for p in body.inputs if p.stream}
                given |= {p.id: own for p in body.inputs if p.id in ("w", "start")}
                given |= {p.id: uses | own for p in body.inputs if p.id in ("g", "u", "key", "total_norm")}
                after = self.walk(body, f"{prefix}{learn.id} {rule.name}.", given | args)
                reads |= after.get(body.results[0], frozenset())
        for memory in learn.memories:
            member = self.members.get(prefix + memory)
            if member is not None and (learn.every.unit != "step" or member.period.unit == "step"):
                self.note(member.id, reads)  # a training step writes the start of what a token clock writes, not it
        if not prefix:
            self.note(starts_of(learn), reads)

    def starts(self) -> None:
        """A memory that starts from another reads it."""
        for memory in self.graph.memories.values():
            streams = (s for body in memory.starts for s in body.records if isinstance(s, Stream) and s.memory)
            self.note(memory.id, frozenset(s.memory for s in streams))
