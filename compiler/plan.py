"""The plan of a program: its stages, and for each memory how it runs and why not faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nldsl.compiler.dependences import Shape, nodes_of
from nldsl.compiler.distribute import Loop, Stage, Together, distribute
from nldsl.compiler.lowerings import lowered
from nldsl.compiler.lowerings.trial import Machine

from nldsl.graph import LevelGraph, Memory, Objective, Stream


@dataclass(frozen=True)
class Choice:
    """How a memory runs. chunk: the ticks it runs at once, 0 for all. because: why it may. refused: what is faster, and
    why it can't be."""

    memory: str
    lowering: str
    chunk: int
    refused: tuple[tuple[str, str], ...] = ()
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """stages: what runs in which order. choices: one per memory that is written while the program runs."""

    stages: tuple[Stage, ...]
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        closed = {c.memory for c in self.choices if c.lowering == "closed form"}
        return "\n".join([*_table(self.choices), "", *_tree(self.stages, 0, closed)])


def planned(graph: LevelGraph, only: str = "") -> Plan:
    """LevelGraph -> Plan. only: "recurrence" for one tick after the other."""
    shape = Shape.of(graph.tick, graph.bodies)
    stages = distribute(nodes_of(graph.tick), shape, chunks=only != "recurrence")
    if not only:
        stages = lowered(stages, Machine(graph))
    learns = [o for o in graph.objectives if o.every.unit == "token"]
    writes = [s for s in graph.records(Stream) if s.op == "assign"]
    sites = (_site(m, learns, writes, stages, only) for m in graph.records(Memory))
    return Plan(stages, tuple(_choice(site) for site in sites if site.learns or site.writes))


# Why


@dataclass(frozen=True)
class Site:
    """A memory, those who write it, and the loops around its writes, outermost first."""

    memory: Memory
    learns: tuple[Objective, ...]
    writes: tuple[Stream, ...]
    loops: tuple[Loop, ...]
    only: str

    @property
    def local(self) -> tuple[Objective, ...]:
        return tuple(o for o in self.learns if o.kind == "local")

    def hold(self, kind: str) -> str:
        """Why the memory does not run in chunks of this hold."""
        if not any(o.hold == kind for o in self.local):
            return f"no learn says `hold {kind}`"
        return self.unchunked

    @property
    def unchunked(self) -> str:
        if self.only:
            return f"only {self.only} is asked for"
        if self.memory.reset_when:
            return "`reset when` may restart it at any tick"
        if self.loops and self.loops[0].length == 1:
            return "what it learns from depends on what it wrote a tick before"
        return ""

    @property
    def writing(self) -> Loop | None:
        return self.loops[-1] if self.loops else None


def _no_attention(site: Site) -> str:
    return "" if site.memory.form == "attention" else "it keeps weights, not pairs"


def _no_segment(site: Site) -> str:
    if site.writes or any(o.kind != "loss" for o in site.learns):
        return "it does not learn from the loss alone"
    return ""


def _no_closed_form(site: Site) -> str:
    if site.only:
        return f"only {site.only} is asked for"
    if site.writing is None:
        return "nothing of it takes turns"
    return "" if site.writing.lowering else site.writing.refused or "it is written in windows"


def _no_window(site: Site) -> str:
    periods = {o.every.count for o in site.local} | {s.every for s in site.writes}
    if min(periods, default=1) == 1:
        return "it is written at every tick"
    if any(loop.alone for loop in site.loops):
        return ""
    return site.unchunked or "its periods have no common window"


def _no_slide(site: Site) -> str:
    return "" if any(o.over for o in site.local) else "no learn says `over last`"


# Fastest first; the first that has no reason against it is how a memory runs.
ROWS: tuple[tuple[str, Callable[[Site], str]], ...] = (
    ("attention", _no_attention),
    ("loss segments", _no_segment),
    ("closed form", _no_closed_form),
    ("held state", lambda site: site.hold("state")),
    ("held gradient", lambda site: site.hold("gradient")),
    ("windowed write", _no_window),
    ("sliding objective", _no_slide),
    ("recurrence", lambda site: ""),
)
APART = {"attention", "loss segments", "sliding objective"}  # other meanings, not faster ways to the same


def _site(
    memory: Memory, learns: Sequence[Objective], writes: Sequence[Stream], stages: Sequence[Stage], only: str
) -> Site:
    own = tuple(o for o in learns if memory.id in o.memories)
    return Site(memory, own, tuple(s for s in writes if s.memory == memory.id), tuple(_loops(memory.id, stages)), only)


def _choice(site: Site) -> Choice:
    refused: list[tuple[str, str]] = []
    for name, why_not in ROWS:
        reason = why_not(site)
        if not reason:
            plain = not site.loops or name in APART | {"recurrence"}
            chunk = int(name == "recurrence") if plain else site.loops[0].length
            because = dict(site.loops[-1].because).get(site.memory.id, ()) if site.loops else ()
            return Choice(site.memory.id, name, chunk, tuple(refused), because)
        if name not in APART:
            refused.append((name, reason))
    raise AssertionError("recurrence always fits")


def _loops(memory: str, stages: Sequence[Stage]) -> Iterator[Loop]:
    for stage in stages:
        if isinstance(stage, Loop) and memory in stage.memories:
            yield stage
            yield from _loops(memory, stage.stages)
            return


# As text


def _table(choices: Sequence[Choice]) -> Iterator[str]:
    if not choices:
        yield "nothing is written while this program runs: every record runs over all ticks at once"
    for choice in choices:
        chunk = f", {choice.chunk} ticks at once" if choice.chunk > 1 else ""
        yield f"{choice.memory}: {choice.lowering}{chunk}"
        yield from (f"    {line}" for line in choice.because)
        for name, reason in choice.refused:
            yield f"    not {name}: {reason}"


def _tree(stages: Sequence[Stage], depth: int, closed: set[str]) -> Iterator[str]:
    for stage in stages:
        if isinstance(stage, Together):
            counts = f"{len(stage.nodes)} record{'s' if len(stage.nodes) > 1 else ''}"
            yield "  " * depth + (f"{counts}, all ticks at once" if not depth else counts)
        elif depth and closed & set(stage.memories):
            yield "  " * depth + "all writes at once"
        else:
            alone = ", the last of them by itself" if stage.alone else ""
            ticks = f"{stage.length} ticks" if stage.length > 1 else "tick"
            yield "  " * depth + f"every {ticks}{alone}: {', '.join(stage.memories) or 'attention'}"
            yield from _tree(stage.stages, depth + 1, closed)
