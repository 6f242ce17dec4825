"""The level diagram: levels as bands from fastest to slowest, the memories in them, and what passes between.

`dot_source` writes it in Graphviz' language. `draw` lays it out with the program `dot` where there is one, else
with the Graphviz that the package pygraphviz brings along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import graphviz
import networkx as nx

from nldsl.graph import LevelGraph
from nldsl.picture import CONTEXT, GRADIENT, ROUND, START, Band, Box, Picture, human, picture

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
STYLES: dict[str, dict[str, str]] = {
    CONTEXT: {"color": "#475569", "penwidth": "1.5"},
    GRADIENT: {"color": "#d1495b", "style": "dashed", "penwidth": "1.2"},
    START: {"color": "#7b5ea7", "style": "dotted", "penwidth": "1.9"},
    ROUND: {"color": "#94a3b8", "penwidth": "1.2"},
}


class DrawError(Exception):
    """A picture that cannot be drawn; its text is one sentence for the user."""


def dot_source(graph: LevelGraph) -> str:
    """The level diagram in Graphviz' language, the same for equal graphs."""
    return _dot(picture(graph)).source


def draw(graph: LevelGraph, path: str | Path) -> None:
    """Write the level diagram to a .svg, .png or .dot file, whole or not at all. Raises DrawError."""
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in ("svg", "png", "dot"):
        raise DrawError(f"A picture is an .svg, .png or .dot file, and `{path}` is none of them.")
    if not path.parent.is_dir():
        raise DrawError(f"There is no folder `{path.parent}` to write `{path.name}` into.")
    source = dot_source(graph)
    content = source.encode() if form == "dot" else _laid_out(source, form)
    _write(path, content)


def _laid_out(source: str, form: str) -> bytes:
    program = shutil.which("dot")
    if program:
        done = subprocess.run([program, f"-T{form}"], input=source.encode(), capture_output=True, check=False)
        if done.returncode or not done.stdout:
            reason = " ".join(done.stderr.decode(errors="replace").split()) or f"it exited with {done.returncode}"
            raise DrawError(f"Graphviz' dot could not lay out the picture: {reason}")
        return done.stdout
    try:
        import pygraphviz
    except ImportError as error:
        raise DrawError(
            f"Drawing .{form} needs Graphviz: install it with `pip install \"nldsl[draw]\"`, or install Graphviz' "
            "`dot`; a .dot file can be written without it."
        ) from error
    try:
        return bytes(pygraphviz.AGraph(string=source).draw(format=form, prog="dot"))
    except (OSError, ValueError, RuntimeError) as error:
        raise DrawError(f"pygraphviz could not lay out the picture: {error}") from error


def _write(path: Path, content: bytes) -> None:
    """Beside its place first, then moved there in one step."""
    part = ""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)  # as open() would have made it
        os.replace(part, path)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        raise DrawError(f"`{path}` could not be written: {error.strerror or error}.") from error


# --- from picture to dot


def _dot(shown: Picture) -> Any:
    dot = graphviz.Digraph(shown.name)
    dot.attr(
        rankdir="LR", compound="true", newrank="true", ranksep="0.55", nodesep="0.22", pad="0.3", bgcolor="white",
        fontname=FONT, fontsize="13", fontcolor=INK, labelloc="b", splines="spline", tooltip=shown.name,
        label=_legend(shown), remincross="true", mclimit="4",
    )  # fmt: skip
    dot.attr("node", fontname=FONT, fontsize="11", fontcolor=INK, shape="box", style="filled,rounded", margin="0.12,0.07")
    dot.attr("edge", fontname=FONT, fontsize="10", arrowsize="0.7")
    ids = {b.name: f"n{i}" for i, b in enumerate([*shown.outside, *(b for band in shown.bands for b in band.boxes)])}
    columns = _columns(shown)
    for i, band in enumerate(shown.bands):
        _band(dot, i, band, TINTS[round(i * (len(TINTS) - 1) / max(1, len(shown.bands) - 1))], ids, columns)
    for box in shown.outside:
        _outside(dot, box, ids[box.name])
    for i in range(len(shown.bands) - 1):
        dot.edge(f"title{i}", f"title{i + 1}", style="invis", weight="0")
    for i, band in enumerate(shown.bands):
        for box in band.boxes:
            dot.edge(f"title{i}", ids[box.name], style="invis", weight="0")
            dot.edge(ids[box.name], f"end{i}", style="invis", weight="0")
    _arrows(dot, shown, ids, columns)
    return dot


def _band(dot: Any, i: int, band: Band, tint: tuple[str, str, str], ids: dict[str, str], columns: Any) -> None:
    fill, edge, text = tint
    with dot.subgraph(name=f"cluster_{i}") as part:
        part.attr(style="filled,rounded", fillcolor=fill, color=fill, label="", margin="10", tooltip=band.title)
        number, _, period = band.title.partition(" · ")
        count = f'<br align="left"/><font point-size="10">{human(band.parameters)} parameters</font>' if band.parameters else ""
        label = (
            f'<<font color="{text}"><b>{number}</b><br align="left"/><font point-size="11">{period}</font>'
            f'{count}<br align="left"/></font>>'
        )
        part.node(f"title{i}", label, shape="plaintext", style="", fontsize="13", tooltip=band.title)
        part.node(f"end{i}", "", shape="point", style="invis", width="0.01", height="0.01")
        for box in band.boxes:
            part.node(ids[box.name], _label(box), tooltip=_plain(box.name), **_look(box, fill, edge))
    for side in ("title", "end"):
        if i == 0:
            continue
        with dot.subgraph() as same:
            same.attr(rank="same")
            same.node(f"{side}{i - 1}")
            same.node(f"{side}{i}")


def _look(box: Box, fill: str, edge: str) -> dict[str, str]:
    if box.kind == "learn":
        return {"fillcolor": fill, "color": STYLES[GRADIENT]["color"], "penwidth": "0.8", "fontcolor": "#8f2f3d"}
    if box.kind in ("rule", "state"):
        return {"fillcolor": "white", "color": edge, "penwidth": "0.8", "fontsize": "10"}
    look = {"fillcolor": "white", "color": edge, "penwidth": "1.5"}
    if box.kind == "group":
        look["peripheries"] = "2"
    return look


def _label(box: Box) -> str:
    copies = f" ×{box.copies}" if box.copies > 1 else ""
    lines = [line for line in box.note.split("\n") if line]
    if box.kind == "learn":
        title = f"<i>{escape(_cut(box.label))}</i>"
    else:
        title = f"<b>{escape(_cut(box.label))}</b>"
        heads = f"{box.heads} heads · " if box.heads else ""
        lines.append(f"{heads}{human(box.size)}{copies}" if box.size else f"{heads.removesuffix(' · ')}{copies}")
    small = "".join(f'<br/><font point-size="9" color="{QUIET}">{escape(line)}</font>' for line in lines if line)
    return f"<{title}{small}>"


def _outside(dot: Any, box: Box, name: str) -> None:
    if box.kind == "loss":
        dot.node(name, "loss", shape="ellipse", fillcolor="#fbe9ec", color="#d1495b", fontcolor="#8f2f3d", tooltip="loss")
    else:
        dot.node(name, _plain(box.name.partition(":")[2]), shape="ellipse", fillcolor="#f1f5f9", color="#94a3b8", tooltip=_plain(box.name))


def _columns(shown: Picture) -> set[tuple[str, str]]:
    """The pairs that set the order from left to right: all that do not run in a circle, context first."""
    order: nx.DiGraph[str] = nx.DiGraph()
    kept: set[tuple[str, str]] = set()

    def add(a: str, b: str) -> None:
        order.add_nodes_from((a, b))
        if a != b and not nx.has_path(order, b, a):
            order.add_edge(a, b)
            kept.add((a, b))

    for a, b, kind in shown.arrows:
        if kind == CONTEXT and isinstance(b, str):
            add(a, b)
    for a, b, kind in shown.arrows:
        if kind == GRADIENT and isinstance(b, str):
            if a == "loss":
                continue
            add(b, a)
    return kept


def _arrows(dot: Any, shown: Picture, ids: dict[str, str], columns: set[tuple[str, str]]) -> None:
    late = {b.name for band in shown.bands for b in band.boxes if b.seen_late}
    for a, b, kind in shown.arrows:
        style = dict(STYLES[kind])
        if not isinstance(b, str):
            i = next(i for i, band in enumerate(shown.bands) if band.levels == b)
            boxes = [x for x in shown.bands[i].boxes if x.learned and x.kind != "learn"]
            dot.edge(ids[a], ids[boxes[-1].name], lhead=f"cluster_{i}", constraint="false", **style)
            continue
        if kind == CONTEXT and a in late:
            style.update(dir="both", arrowtail="tee")
        if (a, b) in columns:
            dot.edge(ids[a], ids[b], **style)
        elif (b, a) in columns and kind != CONTEXT:
            dot.edge(ids[b], ids[a], dir="back", **style)
        else:
            dot.edge(ids[a], ids[b], constraint="false", **style)


def _legend(shown: Picture) -> str:
    kinds = {kind for _, _, kind in shown.arrows}
    words = {CONTEXT: "context: who reads whom", GRADIENT: "gradient: what a learn changes", START: "initial state: a learned start", ROUND: "next round of the repeat"}
    cells = []
    for kind, text in words.items():
        if kind in kinds:
            style = STYLES[kind]
            cells.append(f'<td width="14"></td><td><font color="{style["color"]}">{ {"context":"⟶","gradient":"⇢","start":"⇢","round":"⟶"}[kind]}</font></td><td><font point-size="10" color="{QUIET}">{text}</font></td>')
    return f'<<table border="0" cellborder="0" cellspacing="0"><tr><td><b>{escape(shown.name)}</b></td>{"".join(cells)}</tr></table>>'


def _cut(text: str, length: int = 28) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _plain(text: str) -> str:
    return graphviz.escape(text)
