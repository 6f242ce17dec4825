"""Where everything of a level diagram stands: bands below each other, time from left to right.

A box's column is how far along the flow of context it is, its band is its level. Arrows run between the columns
and rows, never through a box. All lengths are points, y grows downwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import networkx as nx

from nldsl.diagram.fold import LOSS
from nldsl.diagram.picture import CONTEXT, GRADIENT, Box, Picture

Point = tuple[float, float]
GUTTER, ROW, PAD, TITLE, LANE, GAP = 44.0, 9.0, 10.0, 20.0, 12.0, 12.0
MARGIN, ASIDE = 96.0, 64.0  # to the left of the bands, and from their right edge to what is outside


@dataclass
class Place:
    """A box's centre and size."""

    x: float
    y: float
    w: float
    h: float

    @property
    def left(self) -> float:
        return self.x - self.w / 2

    @property
    def right(self) -> float:
        return self.x + self.w / 2

    @property
    def top(self) -> float:
        return self.y - self.h / 2

    @property
    def bottom(self) -> float:
        return self.y + self.h / 2


@dataclass
class Layout:
    places: dict[str, Place] = field(default_factory=dict)
    column: dict[str, int] = field(default_factory=dict)
    band: dict[str, int] = field(default_factory=dict)  # the index of a box's band
    spans: list[tuple[float, float]] = field(default_factory=list)  # each band's top and bottom
    gutters: list[float] = field(default_factory=list)  # right of each column, from column 0, left of all
    left: float = MARGIN
    right: float = 0.0

    @property
    def height(self) -> float:
        return self.spans[-1][1] if self.spans else 60.0


def lay_out(shown: Picture, sizes: Mapping[str, Point], width: float) -> Layout:
    """`sizes`: width and height of each box; the bands are at least `width` wide."""
    laid = Layout()
    for i, band in enumerate(shown.bands):
        laid.band.update((b.name, i) for b in band.boxes)
    laid.column = _columns(shown, laid.band)
    _across(shown, laid, sizes, width)
    top = 0.0
    for i, band in enumerate(shown.bands):
        own = {b.name for b in band.boxes}
        below = {a for a, b, k in shown.arrows if k == CONTEXT and isinstance(b, str) and laid.band.get(b, i) > i}
        boxes = sorted(band.boxes, key=lambda b: b.name in below)  # so that arrows downwards cross no others
        leaves = any(a in own and isinstance(b, str) and b not in laid.band for a, b, _ in shown.arrows)
        bottom = _down(boxes, leaves, laid, sizes, top + TITLE + PAD / 2)
        laid.spans.append((top, bottom + LANE + PAD / 2))
        top = laid.spans[i][1] + GAP
    _aside(shown, laid, sizes)
    return laid


def _columns(shown: Picture, band: Mapping[str, int]) -> dict[str, int]:
    """How far along the flow each box is, from 1; a learn stands behind what it reads and teaches."""
    flow: nx.DiGraph[str] = nx.DiGraph()
    boxes = [b for part in shown.bands for b in part.boxes]
    kinds = {b.name: b.kind for b in boxes}
    flow.add_nodes_from(kinds)
    for a, b, kind in shown.arrows:
        if kind == CONTEXT and isinstance(b, str) and a in kinds and b in kinds and not nx.has_path(flow, b, a):
            flow.add_edge(a, b)
    taught: dict[str, list[str]] = {}
    for a, b, kind in shown.arrows:
        if kind == GRADIENT and isinstance(b, str) and a in kinds and kinds.get(b, "rule") != "rule":
            taught.setdefault(a, []).append(b)
    column: dict[str, int] = {}
    for name in nx.lexicographical_topological_sort(flow, key=list(kinds).index):
        if kinds[name] not in ("learn", "rule"):
            column[name] = 1 + max((column[a] for a in flow.predecessors(name) if a in column), default=0)
    last = max(column.values(), default=1)
    for box in boxes:
        if box.kind == "learn":
            own = [column[m] for m in taught.get(box.name, ()) if band[m] == band[box.name] and m in column]
            read = [column[a] for a in flow.predecessors(box.name) if a in column]
            behind = 1 + max(own + read, default=last)
            column[box.name] = behind if read or len(own) < 2 else min(behind, last)
    for box in boxes:
        if box.kind == "rule":
            serving = next((a for a, b, _ in shown.arrows if b == box.name and a in column), "")
            mates = [b.name for b in boxes if b.name.startswith(f"{serving} ") and band[b.name] == band[box.name]]
            behind = len(mates) - mates.index(box.name) - 1 if box.name in mates else 0
            column[box.name] = max(1, column.get(serving, last) - behind)
    return column


def _across(shown: Picture, laid: Layout, sizes: Mapping[str, Point], width: float) -> None:
    """The columns' places, from the widest box of each."""
    count = max(laid.column.values(), default=1)
    widest = [max((sizes[n][0] for n, c in laid.column.items() if c == i), default=40.0) for i in range(1, count + 1)]
    spare = max(0.0, width - sum(widest) - GUTTER * count) / count
    x = laid.left + PAD
    laid.gutters = [x]
    for i, wide in enumerate(widest, 1):
        centre = x + PAD / 2 + wide / 2 + spare / 2
        for name, column in laid.column.items():
            if column == i:
                laid.places[name] = Place(centre, 0.0, *sizes[name])
        x = centre + wide / 2 + spare / 2 + GUTTER - PAD / 2
        laid.gutters.append(x - GUTTER / 2 + PAD / 4 - spare / 4)
    laid.right = x


def _down(boxes: list[Box], leaves: bool, laid: Layout, sizes: Mapping[str, Point], top: float) -> float:
    """Rows of one band: memories above, below them the learns for which no room is left beside. Returns the bottom."""
    memories = [b.name for b in boxes if b.kind != "learn"]
    last = max((laid.column[m] for m in memories), default=0)
    learns = [b.name for b in boxes if b.kind == "learn"]
    beside = [n for n in learns if laid.column[n] > last and not leaves]  # an arrow to the outside needs the row
    for names in (memories + beside, [n for n in learns if n not in beside]):
        stacks: dict[int, list[str]] = {}
        for name in names:
            stacks.setdefault(laid.column[name], []).append(name)
        heights = {c: sum(sizes[n][1] for n in found) + ROW * (len(found) - 1) for c, found in stacks.items()}
        tall = max(heights.values(), default=0.0)
        for column, found in stacks.items():
            y = top + (tall - heights[column]) / 2
            for name in found:
                laid.places[name].y = y + sizes[name][1] / 2
                y += sizes[name][1] + ROW
        top += tall + (ROW + 4 if stacks else 0)
    return top - ROW


def _aside(shown: Picture, laid: Layout, sizes: Mapping[str, Point]) -> None:
    """What is outside of all levels: inputs on the left, outputs and the loss on the right, beside what they touch."""
    for left in (True, False):
        wished: list[tuple[float, int, str]] = []
        for i, box in enumerate(shown.outside):
            if box.name.startswith("in:") == left:
                near = [b if a == box.name else a for a, b, k in shown.arrows if box.name in (a, b) and k == CONTEXT]
                heights = [laid.places[n].y for n in near if isinstance(n, str) and n in laid.places]
                taught = [n for a, n, _ in shown.arrows if a == LOSS == box.name and isinstance(n, str)]
                lowest = max((laid.places[n].y for n in taught), default=0.0)
                middle = sum(heights) / len(heights) if heights else 30.0
                wished.append((lowest or middle, i + 1000 * (box.kind == "loss"), box.name))
        y = -1e9
        for wish, _, name in sorted(wished):
            w, h = sizes[name]
            y = max(wish, y)
            laid.places[name] = Place(laid.left - 22 - w / 2 if left else laid.right + ASIDE + w / 2, y, w, h)
            y += h + ROW
