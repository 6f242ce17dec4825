"""Which values a gradient reaches, and where it is cut. What an operation passes on, and searches over that."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nldsl.graph import Body, Stream
from nldsl.primitives import OPERATORS, PRIMITIVES
from nldsl.spans import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a gradient ends. what: why, as a clause in the user's words."""

    what: str
    span: Span = NOWHERE


Node = str | tuple[Any, ...]  # a stream or port of the body; ("value", memory, leaf, version); ("parameter", name); …
Edge = tuple[Node, Cut | None, str]  # computed from; where that is cut; the write it passes
Sources = dict[Node, Cut | None]

LOSS: Node = ("loss",)
_ROUGH = frozenset(n for n, row in PRIMITIVES.items() if not row.smooth)
_SYMBOL = {name: symbol for symbol, name in OPERATORS.items()}
_COMPARES = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))
_INDEXED = frozenset(("take", "cross_entropy"))  # their second argument is an index

# What the derivative of an operation depends on: nothing, the other arguments, or the arguments' signs only.
_LINEAR = frozenset((
    "add", "sub", "neg", "sum", "mean", "reshape", "split", "merge", "transpose", "concat", "slice", "per_head",
    "cumsum", "data", "take", "next",
))  # fmt: skip
_BILINEAR = frozenset(("mul", "matmul", "outer", "causal_conv"))
_KINKED = frozenset(("abs", "relu", "minimum", "maximum", "clamp", "max", "mod"))


def cut_of(stream: Stream) -> Cut:
    """Why no gradient passes a primitive that isn't smooth."""
    if stream.op == "stop":
        return Cut("`stop` blocks every gradient", stream.span)
    if stream.op in _COMPARES:
        return Cut(f"a comparison (`{_SYMBOL[stream.op]}`) has no gradient", stream.span)
    return Cut(f"`{_SYMBOL.get(stream.op, stream.op)}` has no gradient", stream.span)


def inputs(stream: Stream) -> Iterator[tuple[str, Cut | None]]:
    """A stream's arguments, and where their gradient is cut."""
    cut = cut_of(stream) if stream.op in _ROUGH else None
    for position, arg in enumerate(stream.args):
        if isinstance(arg, str):
            index = position == 1 and stream.op in _INDEXED
            yield arg, Cut(f"`{stream.op}` takes it as a whole number", stream.span) if index else cut


def slopes(body: Body) -> Sources:
    """What the gradient of an objective is computed from. `0.5 * sum((y - t)^2)` has one that depends on y and t,
    `-sum(y * t)` on t alone."""
    streams = [s for s in body.records if isinstance(s, Stream)]
    carried: set[str] = set()
    for stream in streams:
        if stream.mode == "self" or any(arg in carried and cut is None for arg, cut in inputs(stream)):
            carried.add(stream.id)
    live = set(body.results)
    for stream in reversed(streams):
        if stream.id in live:
            live.update(arg for arg, cut in inputs(stream) if cut is None)
    found: Sources = {}
    for stream in streams:
        if stream.id not in live or stream.op == "weight":
            continue
        for position, arg in enumerate(stream.args):
            if isinstance(arg, str) and arg in carried:
                for source, cut in _slope(stream, position):
                    if isinstance(source, str):
                        found[source] = None if source in found and found[source] is None else cut
    return found


def _slope(stream: Stream, position: int) -> Iterable[tuple[Any, Cut | None]]:
    """What the derivative of an operation with respect to one argument depends on."""
    op, args = stream.op, stream.args
    if op in _LINEAR or (op == "pow" and position == 0 and args[1] in (0, 1)):
        return ()
    if op in _BILINEAR or (op == "div" and position == 0):
        return [(a, None) for i, a in enumerate(args) if i != position]
    if op == "where":
        return [(args[0], None)]
    if op in _KINKED:
        return [(a, Cut(f"the slope of `{op}` is a step", stream.span)) for a in args]
    return [(a, None) for a in args]


# Searching


def sweep(deps: Mapping[Node, list[Edge]], roots: Iterable[Node]) -> dict[Node, tuple[str, ...]]:
    """Everything the gradient of the roots reaches, and the writes on a way with the fewest of them."""
    found: dict[Node, tuple[str, ...]] = dict.fromkeys(roots, ())
    queue = deque(found)
    while queue:
        node = queue.popleft()
        passed = found[node]
        for source, cut, via in deps.get(node, ()):
            if cut is None:
                way = (*passed, via) if via else passed
                if source not in found or len(way) < len(found[source]):
                    found[source] = way
                    if via:
                        queue.append(source)
                    else:
                        queue.appendleft(source)
    return found


def needed(deps: Mapping[Node, list[Edge]], roots: Iterable[Node]) -> dict[Node, None]:
    """Everything the roots are computed from, whether or not a gradient passes."""
    found = dict.fromkeys(roots)
    queue = list(found)
    while queue:
        for source, _, _ in deps.get(queue.pop(), ()):
            if source not in found:
                found[source] = None
                queue.append(source)
    return found


def forward(deps: Mapping[Node, list[Edge]]) -> dict[Node, list[tuple[Node, Cut | None]]]:
    """The same dependences from what is used to what uses it."""
    after: dict[Node, list[tuple[Node, Cut | None]]] = {}
    for target, edges in deps.items():
        for source, cut, _ in edges:
            after.setdefault(source, []).append((target, cut))
    return after


def nearest_cut(
    after: Mapping[Node, list[tuple[Node, Cut | None]]], node: Node, everything: Mapping[Node, None]
) -> Cut | None:
    """The first cut on the way from a node to what is computed from it."""
    seen, queue = {node}, deque([node])
    while queue:
        for target, cut in after.get(queue.popleft(), ()):
            if target not in everything:
                continue
            if cut is not None:
                return cut
            if target not in seen:
                seen.add(target)
                queue.append(target)
    return None
