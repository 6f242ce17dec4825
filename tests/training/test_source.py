"""Programs as checkpoints keep them: their texts are enough to build them anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.source import Source, source_of

import nldsl
from nldsl.meaning import meaning
from nldsl.program import front_end

NET = "net twice over x: [n] -> [n] = 2 * x\n"
MAIN = """\
from parts.nets import twice
from std.nets import linear
block Only over x: [2] -> [2] { return x }
block Mine(dim = 4, rate = 0.1) over x: [dim] -> [dim] {
  return rate * twice(x) |> linear(dim)   # a comment
}
"""


def kept(program: str, **hyper: Any) -> Source:
    return source_of(program, hyper, front_end(program, hyper))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "nets.nl").write_text(NET)
    (tmp_path / "main.nl").write_text(MAIN)
    return tmp_path / "main.nl"


def test_a_program_and_the_users_modules_are_kept_and_not_the_library(program: Path) -> None:
    source = kept(f"{program}:Mine", dim=3)
    assert source.texts == {"main.nl": MAIN, "parts/nets.nl": NET}
    assert (source.entry, source.hyper) == ("main.nl:Mine", {"dim": 3})


def test_it_is_built_again_without_its_files(program: Path) -> None:
    source, graph = kept(f"{program}:Mine", rate=0.3), nldsl.load(f"{program}:Mine", rate=0.3)
    program.unlink()
    again = source.graph(nldsl.__version__)
    assert meaning(again) == meaning(graph) == source.meaning
    assert (again.program, again.hyper) == (graph.program, graph.hyper)


@pytest.mark.parametrize("name", ["std.titans:LMM", "std.titans", "FILE"])
def test_a_program_of_the_library_is_kept_by_its_name(name: str) -> None:
    file = Path(__file__).parents[2] / "stdlib" / "titans.nl"
    source = kept(str(file) if name == "FILE" else name, dim=16, heads=2)
    assert (source.texts, source.entry) == ({}, "std.titans" if name == "FILE" else name)
    assert meaning(source.graph(nldsl.__version__)) == source.meaning


def test_comments_and_names_of_files_mean_nothing_and_numbers_do(program: Path) -> None:
    first = kept(f"{program}:Mine").meaning
    other = program.with_name("other.nl")
    other.write_text("# another comment\n\n" + MAIN.replace("# a comment", ""))
    assert kept(f"{other}:Mine").meaning == first
    assert kept(f"{other}:Mine", rate=0.1).meaning == first
    assert kept(f"{other}:Mine", rate=0.2).meaning != first
    other.write_text(MAIN.replace("rate * twice(x)", "twice(rate * x)"))
    assert kept(f"{other}:Mine").meaning != first


def test_a_library_that_has_changed(program: Path) -> None:
    source = kept(f"{program}:Mine")
    other = Source(**vars(source) | {"meaning": "0"})
    with pytest.raises(
        TrainingError, match=r"means something else to this nldsl .*; that was nldsl 0\.0\.1 and this is"
    ):
        other.graph("0.0.1")
    wrong = Source(**vars(source) | {"texts": {"main.nl": MAIN}})
    with pytest.raises(TrainingError, match="is wrong to this nldsl"):
        wrong.graph(nldsl.__version__)
