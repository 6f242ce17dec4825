"""Level diagrams as files: the dot text, the pictures, and what goes wrong."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import nldsl
from nldsl.diagram import draw as diagram
from nldsl.diagram.draw import DrawError, dot_source, draw
from nldsl.diagram.layout import Place, lay_out
from nldsl.diagram.picture import Picture, picture
from nldsl.diagram.source import STYLES
from nldsl.diagram.wires import Wires, shortened, spline
from nldsl.graph import LevelGraph
from nldsl.network import level_graph

PROGRAMS = [
    "std.transformer", "std.titans", "std.linear_attention", "std.hope:Hope", "std.hope:HopeAttention", "std.delta",
    "std.ttt", "examples/optimizers.nl", "examples/two_levels.nl", "examples/definitions.nl", "examples/attention.nl",
]  # fmt: skip
CAN_LAY_OUT = bool(shutil.which("dot") or importlib.util.find_spec("pygraphviz"))


@pytest.fixture(scope="module")
def small() -> LevelGraph:
    return nldsl.load("std.hope:Hope", dim=16, depth=3, heads=2, periods=[16, 64])


def test_source_says_it_all(small: LevelGraph) -> None:
    source = dot_source(small)
    titles = re.findall(r"<b>(level \d · [^<]*)</b>", source)
    assert titles == [
        "level 1 · every token", "level 2 · every 16 tokens", "level 3 · every 64 tokens",
        "level 4 · every step", "level 5 · every step",
    ]  # fmt: skip
    assert "×3" in source and "2 heads" in source and "hold state for 16 tokens" in source
    for kind in STYLES:
        assert f"tooltip={kind}" in source and f"legend_{kind}_from -> legend_{kind}_to" in source
    assert "held: seen as at the start of a chunk" in source


def test_source_is_the_same_for_the_same_graph(small: LevelGraph) -> None:
    again = nldsl.load("std.hope:Hope", dim=16, depth=3, heads=2, periods=[16, 64])
    assert dot_source(small) == dot_source(again)


def test_odd_names_are_quoted() -> None:
    graph = nldsl.load("examples/two_levels.nl")
    odd = 'learn <M>, "N" & \\n *'
    graph.tick = _renamed(graph.tick, "M", odd)
    graph = _rebuilt(graph)
    source = dot_source(graph)
    assert "&lt;M&gt;, &quot;N&quot; &amp;" in source
    if CAN_LAY_OUT:
        assert b"&lt;M&gt;" in diagram._laid_out(source, "svg")


def _renamed(body: Any, old: str, new: str) -> Any:
    if isinstance(body, str):
        return new if body == old else body
    if isinstance(body, tuple):
        return tuple(_renamed(part, old, new) for part in body)
    if is_dataclass(body) and not isinstance(body, type):
        return replace(body, **{f.name: _renamed(getattr(body, f.name), old, new) for f in fields(body) if f.init})
    return body


def _rebuilt(graph: LevelGraph) -> LevelGraph:
    return level_graph(graph.program, graph.kind, graph.hyper, graph.tick, graph.bodies, graph.loss, graph.outs, ())


@cache
def shown_at_full_size(program: str) -> Picture:
    return picture(nldsl.load(program))


@pytest.mark.parametrize("program", PROGRAMS)
def test_boxes_keep_apart_and_inside_their_bands(program: str) -> None:
    shown = shown_at_full_size(program)
    names = [b.name for band in shown.bands for b in band.boxes] + [b.name for b in shown.outside]
    laid = lay_out(shown, dict.fromkeys(names, (90.0, 40.0)), 500.0)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not _overlap(laid.places[a], laid.places[b]), (a, b)
    for name, band in laid.band.items():
        top, bottom = laid.spans[band]
        assert top < laid.places[name].top and laid.places[name].bottom < bottom
    for (_, above), (below, _) in pairwise(laid.spans):
        assert above < below


def _overlap(a: Place, b: Place) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


@pytest.mark.parametrize("program", PROGRAMS)
def test_arrows_go_through_no_box(program: str) -> None:
    shown = shown_at_full_size(program)
    names = [b.name for band in shown.bands for b in band.boxes] + [b.name for b in shown.outside]
    laid = lay_out(shown, dict.fromkeys(names, (90.0, 40.0)), 500.0)
    wires = Wires(laid)
    for a, b, kind in shown.arrows:
        target = b if isinstance(b, str) else next(i for i, band in enumerate(shown.bands) if band.levels == b)
        way = wires.way(a, target, kind)
        for (x0, y0), (x1, y1) in pairwise(way):
            piece = Place((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0), abs(y1 - y0))
            crossed = [n for n, p in laid.places.items() if n not in (a, b) and _overlap(piece, p)]
            assert not crossed, (a, b, kind, crossed)


def test_hope_has_the_shape_of_a_page() -> None:
    source = dot_source(nldsl.load("examples/hope.nl"))
    at = [tuple(map(float, m)) for m in re.findall(r' pos="(-?[\d.]+),(-?[\d.]+)" ', source)]
    wide, high = (max(c) - min(c) for c in zip(*at, strict=True))
    assert 1.2 < wide / high < 1.8 and wide < 1500


def test_splines_have_whole_pieces() -> None:
    points = spline(shortened([(0.0, 0.0), (50.0, 0.0), (50.0, 80.0), (90.0, 80.0)], 0, 7))
    assert len(points) % 3 == 1 and points[0] == (0.0, 0.0) and points[-1] == (83.0, 80.0)


@pytest.mark.skipif(not CAN_LAY_OUT, reason="neither dot nor pygraphviz")
@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".SVG", b"<?xml")])
def test_pictures(small: LevelGraph, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"a picture{suffix}"
    draw(small, path)
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if "svg" in suffix.lower():
        assert "level 2 · every 16 tokens" in path.read_text()


def test_dot_files_need_no_graphviz(small: LevelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_graphviz(monkeypatch)
    draw(small, str(tmp_path / "hope.dot"))
    assert (tmp_path / "hope.dot").read_text() == dot_source(small)


def test_without_graphviz_a_sentence(small: LevelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_graphviz(monkeypatch)
    with pytest.raises(DrawError, match=r'`pip install "nldsl\[draw\]"`.*`dot`.*\.dot file') as caught:
        draw(small, tmp_path / "hope.svg")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def _without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


def test_dot_on_the_path_is_used(small: LevelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "$1"\ncat | head -c 7\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_: str(program))
    draw(small, tmp_path / "hope.png")
    assert (tmp_path / "hope.png").read_text() == "-Tpng\ndigraph"


def test_a_dot_that_fails(small: LevelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'Error: no' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_: str(program))
    with pytest.raises(DrawError, match="could not lay out the picture: Error: no"):
        draw(small, tmp_path / "hope.png")


@pytest.mark.parametrize("name", ["hope.pdf", "hope", "hope.svg.gz"])
def test_other_suffixes(small: LevelGraph, tmp_path: Path, name: str) -> None:
    with pytest.raises(DrawError, match=r"\.svg, \.png or \.dot"):
        draw(small, tmp_path / name)


def test_a_missing_folder(small: LevelGraph, tmp_path: Path) -> None:
    with pytest.raises(DrawError, match="There is no folder"):
        draw(small, tmp_path / "nowhere" / "hope.dot")


def test_a_place_that_cannot_be_written(small: LevelGraph, tmp_path: Path) -> None:
    (tmp_path / "hope.dot").mkdir()
    with pytest.raises(DrawError, match="could not be written"):
        draw(small, tmp_path / "hope.dot")
    assert [p.name for p in tmp_path.iterdir()] == ["hope.dot"]


def test_nothing_half_written(small: LevelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hope.dot"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(diagram.os, "replace", fail)
    with pytest.raises(DrawError, match="No space left on device"):
        draw(small, path)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_drawing_needs_no_torch() -> None:
    code = "import sys, nldsl.diagram.draw; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_program_without_memories_is_drawn() -> None:
    graph = nldsl.load_text("block Sum over x: [2] -> [2] { return x + x }", "Sum")
    assert "digraph" in dot_source(graph) and nx.number_of_nodes(graph) > 0
