"""A laid-out level diagram in Graphviz' language. Everything has its place in it (`layout=nop2`), so that any
Graphviz draws the same picture."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

import graphviz

from nldsl.diagram.layout import Layout, Place, Point, lay_out
from nldsl.diagram.picture import CONTEXT, GRADIENT, ROUND, START, Band, Box, Picture
from nldsl.diagram.wires import HEAD, Wires, shortened, spline
from nldsl.diagram.wording import cut, human, plain, wide_as

FONT = "Helvetica,Arial,sans-serif"
INK, QUIET = "#1e293b", "#64748b"
# Bands run from warm (fast) to cool (slow): fill, border, text.
TINTS = (
    ("#fff4e6", "#f0b27a", "#9a5518"),
    ("#fdf8e1", "#d9bf62", "#7a6410"),
    ("#eff7e8", "#a3c585", "#4b6f2c"),
    ("#e6f6f4", "#7fbfb5", "#256b61"),
    ("#e8f1fb", "#8fb4dc", "#2c5a8c"),
    ("#eeeefb", "#a6a6dc", "#4a4a97"),
)
RED, DEEP_RED = "#d1495b", "#8f2f3d"
STYLES: dict[str, dict[str, str]] = {
    CONTEXT: {"color": "#475569", "penwidth": "1.5"},
    ROUND: {"color": "#a3adbd", "penwidth": "1.3"},
    GRADIENT: {"color": RED, "style": "dashed", "penwidth": "1.2"},
    START: {"color": "#7b5ea7", "style": "dotted", "penwidth": "1.9"},
}
WORDS = {
    CONTEXT: "context: reads",
    ROUND: "next round of a repeat",
    GRADIENT: "gradient: learns",
    START: "initial state: learns the start",
}
NAME, SMALL, LINE = 11.0, 9.0, 11.5  # font sizes of a box, and the height of its small lines
Lines = list[tuple[str, bool]]  # text and whether it is the box's name


def written(shown: Picture) -> str:
    """The dot text of a picture, the same for equal pictures."""
    boxes = [*shown.outside, *(b for band in shown.bands for b in band.boxes)]
    ids = {b.name: f"n{i}" for i, b in enumerate(boxes)}
    texts = {b.name: _text(b) for b in boxes}
    laid = lay_out(shown, {b.name: _size(texts[b.name], b.kind == "group") for b in boxes}, 560.0)
    reading = Counter(a for a, _, kind in shown.arrows if kind == CONTEXT)
    wires = Wires(laid, readers=dict(reading))
    height = laid.height + 64

    def at(x: float, y: float) -> str:
        return f"{x:.1f},{height - y:.1f}"

    dot = graphviz.Digraph(shown.name)
    dot.attr(layout="nop2", pad="0.25", bgcolor="white", fontname=FONT, fontcolor=INK, outputorder="edgeslast")
    dot.attr("node", fontname=FONT, fontsize=str(NAME), fontcolor=INK, shape="box", style="filled,rounded")
    dot.attr("node", fixedsize="shape")
    dot.attr("edge", fontname=FONT, arrowsize=str(HEAD / 10))

    def node(part: Any, name: str, label: str, place: Place, **look: str) -> None:
        size = {"width": f"{place.w / 72:.3f}", "height": f"{place.h / 72:.3f}"}
        part.node(name, label, pos=at(place.x, place.y), **size, **look)

    def edge(a: str, b: str, points: list[Point], kind: str, late: bool = False, **more: str) -> None:
        style = dict(STYLES[kind])
        if late:
            style.update(dir="both", arrowtail="tee")
        ends = f"s,{at(*points[0])} " if late else ""
        way = spline(shortened(points, 2.0 if late else 0.0, HEAD))
        dot.edge(a, b, pos=f"{ends}e,{at(*points[-1])} " + " ".join(at(*p) for p in way), **style, **more)

    for i, band in enumerate(shown.bands):
        tint = TINTS[round(i * (len(TINTS) - 1) / max(1, len(shown.bands) - 1))]
        _band(dot, node, i, band, tint, laid, height)
        with dot.subgraph(name=f"cluster_{i}") as part:
            for box in band.boxes:
                place = laid.places[box.name]
                if box.kind == "group":  # its second border lies outside
                    place = Place(place.x, place.y, place.w - 8, place.h - 8)
                node(part, ids[box.name], _html(texts[box.name], box), place, **_look(box, tint))
    for box in shown.outside:
        node(dot, ids[box.name], _html(texts[box.name], box), laid.places[box.name], **_look(box, TINTS[-1]))
    late = {b.name for b in boxes if b.seen_late}
    order = list(STYLES)[::-1]
    for a, b, kind in sorted(shown.arrows, key=lambda x: order.index(x[2])):
        if isinstance(b, str):
            edge(ids[a], ids[b], wires.way(a, b, kind), kind, kind == CONTEXT and a in late, tooltip=kind)
        else:
            i = next(i for i, band in enumerate(shown.bands) if band.levels == b)
            inside = next(x for x in shown.bands[i].boxes if x.learned)
            edge(ids[a], ids[inside.name], wires.way(a, i, kind), kind, lhead=f"cluster_{i}", tooltip=kind)
    x = laid.left
    for kind in [k for k in STYLES if any(k == used for _, _, used in shown.arrows)]:
        x = _legend(dot, node, edge, kind, WORDS[kind], x, laid.height + 22)
    if late:
        _legend(dot, node, edge, CONTEXT, "held: seen as at the start of a chunk", x, laid.height + 22, True)
    name = Place(laid.left + wide_as(shown.name, 15) / 2, -22.0, wide_as(shown.name, 15) + 8, 20.0)
    label = _aligned(f"<b>{escape(shown.name)}</b>", name.w)
    node(dot, "name", label, name, shape="plaintext", style="", fontsize="15")
    return str(dot.source)


def _aligned(text: str, wide: float) -> str:
    """A label of one line at the left of its place."""
    cell = f'<td align="text">{text}<br align="left"/></td>'
    table = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="0" width="{wide:.0f}">'
    return f"<{table}<tr>{cell}</tr></table>>"


def _band(dot: Any, node: Any, i: int, band: Band, tint: tuple[str, str, str], laid: Layout, height: float) -> None:
    fill, _, ink = tint
    top, bottom = laid.spans[i]
    with dot.subgraph(name=f"cluster_{i}") as part:
        part.attr(
            style="filled,rounded", fillcolor=fill, color=fill, tooltip=plain(band.title), label="",
            bb=f"{laid.left:.1f},{height - bottom:.1f},{laid.right:.1f},{height - top:.1f}",
        )  # fmt: skip
        kept: tuple[tuple[int, str], ...] = ((band.parameters, "parameters"), (band.state, "state"))
        counts = " · ".join(f"{human(count)} {word}" for count, word in kept if count)
        wide = wide_as(band.title, NAME) * 1.1
        title = _aligned(f'<font color="{ink}"><b>{escape(band.title)}</b></font>', wide)
        place = Place(laid.left + 12 + wide / 2, top + 12, wide, 14)
        node(part, f"title{i}", title, place, shape="plaintext", style="")
        if counts:
            wide = wide_as(counts, SMALL)
            place = Place(laid.gutters[-1] - 16 - wide / 2, top + 12, wide, 14)  # left of what climbs up there
            look = {"shape": "plaintext", "style": "", "fontsize": f"{SMALL:g}", "fontcolor": ink}
            node(part, f"count{i}", counts, place, **look)


def _legend(dot: Any, node: Any, edge: Any, kind: str, words: str, x: float, y: float, late: bool = False) -> float:
    """One line of each kind with its name; returns where the next may begin."""
    name = f"legend_{'held' if late else kind}"
    wide = wide_as(words, SMALL)
    node(dot, f"{name}_from", "", Place(x, y, 1, 1), shape="point", style="invis")
    node(dot, f"{name}_to", "", Place(x + 34, y, 1, 1), shape="point", style="invis")
    edge(f"{name}_from", f"{name}_to", [(x + 2, y), (x + 32, y)], kind, late)
    text = Place(x + 40 + wide / 2, y, wide, 12)
    label = _aligned(f'<font point-size="{SMALL:g}" color="{QUIET}">{words}</font>', wide)
    node(dot, name, label, text, shape="plaintext", style="")
    return x + 40 + wide + 18


def _look(box: Box, tint: tuple[str, str, str]) -> dict[str, str]:
    look = {"tooltip": plain(box.name), "fillcolor": "white", "color": tint[1], "penwidth": "1.4"}
    match box.kind:
        case "learn":
            look.update(color=RED, penwidth="0.8", fillcolor="#fdf3f4", style="filled")
        case "rule" | "state":
            look.update(penwidth="0.8")
        case "group":
            look.update(peripheries="2", penwidth="1.1")
        case "port":
            look.update(shape="ellipse", fillcolor="#f1f5f9", color="#94a3b8", style="filled")
        case "loss":
            look.update(shape="ellipse", fillcolor="#fbe9ec", color=RED, style="filled")
    return look


def _text(box: Box) -> Lines:
    """The lines of a box."""
    if box.kind in ("port", "loss"):
        return [(cut(box.label), True)]
    copies = f"×{box.copies}" if box.copies > 1 else ""
    lines: Lines = [(cut(box.label), True), *((line, False) for line in box.note.split("\n") if line)]
    heads = f"{box.heads} heads" if box.heads else ""
    count = " ".join(filter(None, (human(box.size) if box.size else "", copies)))
    if box.kind == "rule":
        return [lines[0], (f"{box.note} · {count}", False)]
    last = (" · " if box.size else " ").join(filter(None, (heads, count)))
    return [*lines, (last, False)] if last and box.kind != "learn" else lines


def _html(lines: Lines, box: Box) -> str:
    rows = []
    for text, named in lines:
        if named and box.kind == "learn":
            rows.append(f'<font color="{DEEP_RED}"><i>{escape(text)}</i></font>')
        elif named:
            rows.append(f"<b>{escape(text)}</b>" if box.kind not in ("port", "loss") else escape(text))
        else:
            rows.append(f'<font point-size="{SMALL:g}" color="{QUIET}">{escape(text)}</font>')
    apart = '<br/><font point-size="3"> </font>' if len(rows) > 1 else ""  # below the name, whose letters reach down
    return f"<{'<br/>'.join([rows[0] + apart, *rows[1:]])}>"


def _size(lines: Lines, double: bool) -> Point:
    """Width and height of the box around some lines."""
    wide = max(wide_as(text, NAME if named else SMALL) for text, named in lines)
    more = 6.0 if double else 0.0
    return max(44.0, wide + 18) + more, max(28.0, 19 + LINE * len(lines)) + more
