"""The ways of a level diagram's arrows: along the gaps between columns and rows, with rounded corners."""

from __future__ import annotations

from dataclasses import dataclass, field

from nldsl.diagram.fold import LOSS
from nldsl.diagram.layout import LANE, Layout, Place, Point
from nldsl.diagram.picture import CONTEXT, GRADIENT, ROUND

LOW = 9.0  # how far below the middle of a box's side the gradients touch it
RADIUS, HEAD = 7.0, 7.0


@dataclass
class Wires:
    laid: Layout
    lanes: dict[tuple[object, ...], float] = field(default_factory=dict)
    used: dict[object, int] = field(default_factory=dict)
    readers: dict[str, int] = field(default_factory=dict)  # of each box, how many

    def way(self, source: str, target: str | int, kind: str) -> list[Point]:
        """The corners from the source's side to the target's; a whole number is a band."""
        a = self.laid.places[source]
        if isinstance(target, int):
            x, y = self.laid.right + 14, self.laid.spans[target][0] + 12
            return [(a.right, a.y), (x, a.y), (x, y), (self.laid.right, y)]
        b = self.laid.places[target]
        if source == LOSS:
            return self._from_loss(a, target, b)
        if kind == GRADIENT:
            return self._gradient(source, a, target, b)
        if kind == CONTEXT and b.left > a.right:
            return self._forward(source, a, target, b)
        return self._back(source, a, target, b, kind)

    def _lane(self, place: object, owner: str, kind: str, side: int = 0, step: float = 5.0) -> float:
        """How far from the middle of a gap this arrow runs: arrows of one owner and kind together, others beside;
        with a side only to the left (-1) or the right (1) of the middle."""
        key = (place, owner, kind)
        if key not in self.lanes:
            count = self.used.get((place, side), 0)
            self.used[place, side] = count + 1
            middle = ((count + 1) // 2) * (step if count % 2 else -step)
            self.lanes[key] = side * (4.0 + count * step) if side else middle
        return self.lanes[key]

    def _clear(self, y: float, start: float, end: float, *own: Place) -> bool:
        """Whether no box stands on this level line."""
        low, high = min(start, end), max(start, end)
        return not any(
            p.top - 3 < y < p.bottom + 3 and p.right > low and p.left < high
            for p in self.laid.places.values() if p not in own
        )  # fmt: skip

    def _nothing_between(self, low: Place, high: Place) -> bool:
        """Whether the upright line between two boxes is free."""
        return not any(
            high.bottom <= p.y <= low.top and p.left - 4 < low.x < p.right + 4 for p in self.laid.places.values()
        )

    def _open(self, name: str, side: int = 1) -> bool:
        """Whether the way from a box down to the foot of its band is free, or up to its head for -1."""
        place, band = self.laid.places[name], self.laid.band.get(name)
        return not any(
            n != name and self.laid.band.get(n) == band
            and (p.y - place.y) * side > 0 and p.left - 4 < place.x < p.right + 4
            for n, p in self.laid.places.items()
        )  # fmt: skip

    def _foot(self, name: str, owner: str, kind: str) -> float:
        """A lane along the foot of the box's band."""
        band = self.laid.band.get(name, len(self.laid.spans) - 1)
        return self.laid.spans[band][1] - LANE / 2 - 1 + self._lane(("foot", band), owner, kind, step=3.0)

    def _right_gap(self, name: str, owner: str, kind: str, side: int = 0) -> float:
        column = self.laid.column.get(name)
        if column is None:
            return (self.laid.left - 12) if self.laid.places[name].x < self.laid.left else self.laid.right + 42
        return self.laid.gutters[column] + self._lane(column, owner, kind, side)

    def _left_gap(self, name: str, owner: str, kind: str, side: int = 0) -> float:
        column = self.laid.column.get(name)
        if column is None:
            return self.laid.right + 42
        if column == 1:
            return self.laid.left - 10 + self._lane(0, owner, kind, side)
        return self.laid.gutters[column - 1] + self._lane(column - 1, owner, kind, side)

    def _forward(self, source: str, a: Place, target: str, b: Place) -> list[Point]:
        start, end = (a.right, a.y), (b.left, b.y - (LOW if target == LOSS else 0))
        # Arrows of one source share a lane, and so do arrows to one target from sources that have no other.
        owner = f"to {target}" if self.readers.get(source) == 1 else source
        if abs(a.y - end[1]) < 1 and self._clear(a.y, a.right, b.left, a, b):
            return [start, end]
        from_elsewhere = target != LOSS and self.laid.band.get(source) != self.laid.band.get(target)
        if from_elsewhere and not self._clear(b.y, self.laid.left, b.left, b):
            end = (b.left, end[1] - 6)  # beside the arrows that leave from this row and turn off
        side = -1 if end[1] > a.y else 1  # what goes down turns before what comes up
        first = self._right_gap(source, owner, CONTEXT, side)
        if self._clear(end[1], first, b.left, a, b):
            return [start, (first, a.y), (first, end[1]), end]
        last = self._left_gap(target, owner, CONTEXT, side)
        if self._clear(a.y, a.right, last, a, b):
            return [start, (last, a.y), (last, end[1]), end]
        up = self.laid.band.get(target, 99) < self.laid.band.get(source, 99)
        foot = self._foot(target if up else source, owner, CONTEXT)
        return [start, (first, a.y), (first, foot), (last, foot), (last, end[1]), end]

    def _back(self, source: str, a: Place, target: str, b: Place, kind: str) -> list[Point]:
        first, last = self._right_gap(source, source, kind), self._left_gap(target, source, kind)
        band = self.laid.band.get(target, 0)
        if kind == ROUND and band and self._open(target, -1):
            lane = self.laid.spans[band][0] - 6
            return [(a.right, a.y), (first, a.y), (first, lane), (b.x, lane), (b.x, b.top)]
        lane = self.laid.spans[band][0] - 6 if kind == ROUND and band else self._foot(target, source, kind)
        return [(a.right, a.y), (first, a.y), (first, lane), (last, lane), (last, b.y), (b.left, b.y)]

    def _gradient(self, source: str, a: Place, target: str, b: Place) -> list[Point]:
        low = b.y + min(LOW, b.h / 2 - 4)
        if b.right < a.left:
            if abs(a.y - b.y) < 1 and self._clear(low, b.right, a.left, a, b):
                return [(a.left, low), (b.right, low)]
            same = self.laid.band.get(source) == self.laid.band.get(target)
            if same and a.y > b.bottom and self._open(target) and self._clear(a.y, b.x, a.left, a, b):
                return [(a.left, a.y), (b.x, a.y), (b.x, b.bottom)]
            gap = self._right_gap(target, source, GRADIENT)
            if same and a.y > b.bottom and a.left > gap and self._clear(a.y, gap, a.left, a, b):
                return [(a.left, a.y), (gap, a.y), (gap, low), (b.right, low)]
            gap = self._left_gap(source, source, GRADIENT)
            if same and self._clear(low, gap, b.right, a, b):
                return [(a.left, a.y + LOW), (gap, a.y + LOW), (gap, low), (b.right, low)]
        elif a.top > b.bottom and abs(a.x - b.x) < b.w / 2 and self._nothing_between(a, b):
            return [(a.x, a.top), (a.x, b.bottom)]
        gap = self._right_gap(source, source, GRADIENT)
        return [(a.right, a.y + LOW), (gap, a.y + LOW), *self._arrive(gap, source, target, b, GRADIENT)]

    def _from_loss(self, a: Place, target: str, b: Place) -> list[Point]:
        if abs(a.y - b.y) < 1 and self._clear(a.y, b.right, a.left, a, b):
            return [(a.left, a.y + LOW), (b.right, b.y + LOW)]
        bus = self.laid.right + 28
        start = [(a.left, a.y + LOW), (bus, a.y + LOW)]
        if self._clear(b.y, b.right, bus, a, b):
            return [*start, (bus, b.y), (b.right, b.y)]
        return [*start, *self._arrive(bus, LOSS, target, b, GRADIENT)]

    def _arrive(self, x: float, source: str, target: str, b: Place, kind: str) -> list[Point]:
        """From the vertical line x to a box, by the foot of its band."""
        low = b.y + min(LOW, b.h / 2 - 4)
        foot = self._foot(target, source, kind)
        if self._open(target):
            return [(x, foot), (b.x, foot), (b.x, b.bottom)]
        gap = self._right_gap(target, source, kind)
        return [(x, foot), (gap, foot), (gap, low), (b.right, low)]


def spline(points: list[Point]) -> list[Point]:
    """Cubic Béziers along the corners, each corner rounded: the ends and control points, 3 n + 1 of them."""
    corners = [points[0]]
    for i, point in enumerate(points[1:], 1):
        straight = len(corners) > 1 and i < len(points) and _collinear(corners[-2], corners[-1], point)
        if straight:
            corners[-1] = point
        elif point != corners[-1]:
            corners.append(point)
    found = [corners[0]]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        near, far = _towards(corner, before), _towards(corner, after)
        found += [*_straight(found[-1], near), _mixed(near, corner), _mixed(far, corner), far]
    return [*found, *_straight(found[-1], corners[-1])]


def shortened(points: list[Point], start: float, end: float) -> list[Point]:
    """Room for the arrow's tail and head."""
    first, last = _towards(points[0], points[1], start), _towards(points[-1], points[-2], end)
    return [first, *points[1:-1], last]


def _collinear(a: Point, b: Point, c: Point) -> bool:
    return any(abs(a[axis] - b[axis]) < 0.01 and abs(b[axis] - c[axis]) < 0.01 for axis in (0, 1))


def _towards(a: Point, b: Point, length: float = -1.0) -> Point:
    """The point `length` from a towards b; by default a corner's radius, at most half the way."""
    far = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 or 1.0
    part = (min(RADIUS, far / 2) if length < 0 else min(length, far)) / far
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def _mixed(a: Point, b: Point) -> Point:
    return a[0] + (b[0] - a[0]) * 0.6, a[1] + (b[1] - a[1]) * 0.6


def _straight(a: Point, b: Point) -> list[Point]:
    third = ((b[0] - a[0]) / 3, (b[1] - a[1]) / 3)
    return [(a[0] + third[0], a[1] + third[1]), (b[0] - third[0], b[1] - third[1]), b]
