"""A level graph as boxes, bands and arrows: all that a level diagram says, before anything is laid out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nldsl.clocks import NEVER, held, shown
from nldsl.diagram.fold import LOSS, Folding, collapse, flow, reduced
from nldsl.diagram.wording import how, net
from nldsl.graph import LevelGraph, Memory, Objective, Period
from nldsl.network import port_node
from nldsl.parameters import has_parameters, rule_parameters

CROWD = 7  # more boxes than this in a band, and the small ones of a repeat are shown as one
Arrow = tuple[str, str | tuple[int, ...], str]
CONTEXT, GRADIENT, START, ROUND = "context", "gradient", "start", "round"  # the kinds of arrows


@dataclass
class Box:
    """One box. `kind`: memory, attention, state (of the program), rule (a memory inside an optimizer or a retention),
    group (several small memories), learn, port or loss. `levels` are its copies', none for what is outside of all.
    `size` counts the numbers in one copy, heads included; `copies` how many rounds of a repeat it stands for."""

    name: str
    kind: str
    levels: tuple[int, ...]
    size: int = 0
    copies: int = 0
    heads: int = 0
    note: str = ""
    learned: bool = True
    seen_late: bool = False  # read as it stood at the start of a chunk
    members: tuple[str, ...] = ()

    label: str = ""


@dataclass
class Band:
    """One level, or the levels that the rounds of a repeat take one after the other."""

    levels: tuple[int, ...]
    period: Period
    boxes: list[Box]

    @property
    def title(self) -> str:
        return f"{self.number} · {'never learns' if self.period == NEVER else shown(self.period)}"

    @property
    def number(self) -> str:
        first = [str(n) for n in self.levels]
        if len(first) == 1:
            return f"level {first[0]}"
        return f"levels {', '.join(first)}" if len(first) < 5 else f"levels {first[0]}, {first[1]}, … {first[-1]}"

    @property
    def parameters(self) -> int:
        return sum(b.size * b.copies for b in self.boxes if b.learned)

    @property
    def state(self) -> int:
        """Numbers that are kept and are nobody's parameters."""
        return sum(b.size * b.copies for b in self.boxes if not b.learned)


@dataclass
class Picture:
    """`arrows` are (from, to, kind); a START arrow's target may be a band's levels, for all that is in it."""

    name: str
    bands: list[Band]
    outside: list[Box]
    arrows: list[Arrow]


def picture(graph: LevelGraph) -> Picture:
    pairs = flow(graph)
    fold = Folding.of(n for n, d in graph.nodes(data=True) if d["kind"] != "stream")
    boxes: dict[str, Box] = {}
    for box in _boxes(graph):
        name = fold(box.name)
        known = boxes.setdefault(name, box)
        known.name = name
        known.copies += 1
        known.size = max(known.size, box.size)
        known.levels = tuple(sorted({*known.levels, *box.levels}))
    paced = {kind: {d["level"]: d["clock"] for _, d in graph.nodes(data=True) if d["kind"] == kind}
             for kind in ("objective", "memory")}  # fmt: skip
    clocks = paced["objective"] | paced["memory"]  # a level of starts alone has no memory, but the learn
    bands = sorted({b.levels for b in boxes.values() if b.levels})

    plain = {(fold(a), fold(b)) for a, b in pairs if not fold.carries(a, b)}
    carried = {(fold(a), fold(b)) for a, b in pairs if fold.carries(a, b)}
    place = {name: i for i, name in enumerate(boxes)}
    inside: dict[str, str] = {}
    for levels in bands:
        for group, members in _crowds([b for b in boxes.values() if b.levels == levels]):
            plain, carried = collapse(plain, carried, set(members), group, place)
            place[group] = min(place[m] for m in members)
            boxes[group] = _group(group, [boxes.pop(m) for m in members])
            inside.update(dict.fromkeys(members, group))
    arrows: dict[Arrow, None] = {(a, b, CONTEXT): None for a, b in reduced(plain)}
    arrows.update({(a, b, ROUND): None for a, b in sorted(carried)})
    for a, b, kind in _learning(graph):
        first, second = (inside.get(fold(x), fold(x)) for x in (a, b))
        if first != second:
            arrows[first, second, kind] = None
    _label(boxes.values())
    ordered = sorted(boxes.values(), key=lambda b: place[b.name])
    filled = [Band(n, clocks[n[0]], [b for b in ordered if b.levels == n]) for n in bands]
    return Picture(graph.program, filled, [b for b in ordered if not b.levels], _whole_bands(list(arrows), filled))


def _boxes(graph: LevelGraph) -> Iterator[Box]:
    """One box per port, memory and learn of the graph, with nothing folded yet."""
    late, level, streams = held(graph.tick.records), graph.nodes, graph.streams
    for port in graph.tick.inputs:
        yield Box(port_node(port), "port", (), note=port.id)
    for record in graph.tick.records:
        match record:
            case Memory():
                size = max(1, record.heads) * sum(math.prod(leaf.shape) for leaf in record.leaves)
                kind = {"weights": "memory"}.get(record.form, record.form)
                note = (f"window {record.window}" if record.window else "all pairs") if kind == "attention" else ""
                learned, seen_late = has_parameters(record), record.id in late
                at = (level[record.id]["level"],)
                yield Box(record.id, kind, at, size, 0, record.heads, note, learned, seen_late)
            case Objective() if record.kind != "pairs":
                yield Box(record.id, "learn", (level[record.id]["level"],), note=how(record))
    for learn, name in _inside_rules(graph):
        heads = {m: graph.memories[m].heads for m in learn.memories if m in graph.memories}
        rule, _, inner = name.rpartition(" ")[2].partition(".")
        ends = (f".{rule}.{inner}", f"_{rule}.{inner}")
        sizes = [p.size for p in rule_parameters(learn, heads, graph.bodies) if p.memory.endswith(ends)]
        yield Box(name, "rule", (level[name]["level"],), sum(sizes), note=rule, learned=False)
    if graph.loss:
        yield Box(LOSS, "loss", ())
    for out in graph.outs:
        name = streams[out.stream].name.rpartition(".")[2] if out.stream in streams else out.stream
        yield Box(f"out:{out.id}", "port", (), note=name or ("out" if len(graph.outs) == 1 else out.id))


def _label(boxes: Iterable[Box]) -> None:
    """Names without the scopes around them, as far as that tells them apart."""
    used: Counter[str] = Counter()
    plain: list[Box] = []
    for box in boxes:
        if box.kind in ("memory", "attention", "state"):
            used.update(box.name.split(".", i)[-1] for i in range(box.name.count(".") + 1))
            plain.append(box)
        else:
            rest = box.name[box.name.find("learn") :] if box.kind == "learn" else box.name.rpartition(".")[2]
            box.label = {"port": box.note, "group": box.name, "loss": box.name}.get(box.kind, rest)
    for box in plain:
        parts = box.name.split(".")
        least = 1 if "*" in parts else min(2, len(parts))  # `logits.linear` says more than `linear`
        ends = [".".join(parts[-i:]) for i in range(least, len(parts) + 1)]
        box.label = next((end for end in ends if used[end] == 1), box.name)


def _inside_rules(graph: LevelGraph) -> Iterator[tuple[Objective, str]]:
    """The memories inside optimizers and retentions, each with the learn of the program that it serves."""
    own = graph.memories
    for name, data in graph.nodes(data=True):
        if data["kind"] == "memory" and name not in own:
            serving = [o for o in graph.objectives if name.startswith(f"{o.id} ")]
            yield max(serving, key=lambda o: len(o.id)), name


def _learning(graph: LevelGraph) -> Iterator[tuple[str, str, str]]:
    """Where gradients go, and whose start another memory or a slower learn gives."""
    for a, b, data in graph.edges(data=True):
        if data["kind"] == "initial-state":
            yield a.removesuffix(" retaining"), b, START
    for learn in graph.objectives:
        if learn.kind == "loss" and graph.loss:
            yield LOSS, learn.id, GRADIENT
        for _, memory, data in graph.out_edges(f"{learn.id} retaining", data=True):
            if data["kind"] == "write" and memory in learn.memories:
                yield learn.id, memory, GRADIENT
    for learn, name in _inside_rules(graph):
        yield learn.id, name, GRADIENT


def _crowds(boxes: list[Box]) -> Iterator[tuple[str, list[str]]]:
    """The small memories of a crowded band that one box may stand for, by the repeat or the scope they stand in."""
    if sum(b.kind != "learn" for b in boxes) <= CROWD:
        return
    taken: set[str] = set()
    small = [b for b in boxes if b.kind == "memory" and len(b.members) == 0 and not _is_big(b, boxes)]

    def by_repeat(name: str) -> str:
        return name[: name.rfind("*") + 1]

    def by_scope(name: str) -> str:
        return name.partition(".")[0] if "." in name else ""

    for scope, members in ((by_repeat, small), (by_scope, [b for b in boxes if b.kind in ("memory", "state")])):
        left = len([b for b in boxes if b.name not in taken])
        if scope is by_scope and left <= 2 * CROWD:
            return
        for name, found in _by(scope, [b for b in members if b.name not in taken]).items():
            if name and len(found) > 2:
                taken.update(found)
                yield name, found


def _by(key: Callable[[str], str], boxes: Iterable[Box]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for box in boxes:
        found.setdefault(key(box.name), []).append(box.name)
    return found


def _is_big(box: Box, boxes: list[Box]) -> bool:
    """Whether a memory holds so much of its band that it should be seen: more than all the others of its repeat."""
    others = [b for b in boxes if b.kind == "memory" and b is not box and b.copies == box.copies]
    return box.size >= sum(b.size for b in others) and bool(others)


def _group(name: str, members: list[Box]) -> Box:
    copies = min(b.copies for b in members)
    nets = Counter(net(b.name) for b in members)
    words = [f"{count} {net}" if count > 1 else net for net, count in nets.most_common()]
    note = "\n".join(" · ".join(words[i : i + 2]) for i in range(0, len(words), 2))
    size = sum(b.size * b.copies for b in members) // copies
    return Box(name, "group", members[0].levels, size, copies, note=note, members=tuple(b.name for b in members))


def _whole_bands(arrows: list[Arrow], bands: list[Band]) -> list[Arrow]:
    """One arrow to a band in place of one to each of its memories, where a slower learn starts them all."""
    for band in bands:
        names = {b.name for b in band.boxes if b.kind in ("memory", "group", "attention") and b.learned}
        for source in {a for a, b, kind in arrows if kind == START and b in names}:
            reached = {b for a, b, kind in arrows if a == source and kind == START}
            if names and names <= reached and not any(b.name == source for b in band.boxes):
                kept = [x for x in arrows if not (x[0] == source and x[2] == START and x[1] in names)]
                arrows = [*kept, (source, band.levels, START)]
    return arrows
