"""Trees are kept for the next process: those of the very text, file and parser, or they are made anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from syntax.page import EXAMPLES

from nldsl.spans import Span
from nldsl.syntax import cache, trees
from nldsl.syntax.parse import parse
from nldsl.syntax.tree import Module

TEXT = "block B over x: [4] -> [4] = x + 1"


class Parsed(Exception):
    """The parser was asked."""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The cache lies below this folder, and every `parsed` is that of a new process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    trees.parsed.cache_clear()
    trees._parser.cache_clear()


def again(text: str, file: str, monkeypatch: pytest.MonkeyPatch) -> Module:
    """What the next process gets; it has no parser."""

    def refuse(text: str, file: str) -> None:
        raise Parsed

    forget()
    with monkeypatch.context() as patch:
        patch.setattr(trees, "parse", refuse)
        return trees.parsed(text, file, True)[0]


def spans(module: Module) -> list[Span]:
    return [module.span, *(node.span for d in module.definitions for node in (d, d.name, *d.ports, *d.body))]


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_kept_tree_is_the_parsed_one(text: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, problems = parse(text, "a.nl")
    assert trees.parsed(text, "a.nl", True) == (made, problems) == (made, [])
    kept = again(text, "a.nl", monkeypatch)
    assert kept == made and repr(kept) == repr(made) and spans(kept) == spans(made)


def test_the_next_process_loads_no_parser(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "a.nl").write_text(TEXT)
    code = f"import sys, nldsl; nldsl.check({str(tmp_path / 'a.nl')!r}); sys.exit('lark' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    first, second = (subprocess.run([sys.executable, "-c", code], env=environment).returncode for _ in range(2))
    assert (first, second) == (1, 0)


def test_another_text_file_or_parser_is_parsed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.parsed(TEXT, "a.nl", True)
    assert again(TEXT, "a.nl", monkeypatch)
    for text, file in ((TEXT + "0", "a.nl"), (TEXT, "b.nl")):
        with pytest.raises(Parsed):
            again(text, file, monkeypatch)
    monkeypatch.setattr(trees, "__version__", "another")
    with pytest.raises(Parsed):
        again(TEXT, "a.nl", monkeypatch)


def test_a_text_that_is_no_file_is_not_kept(fresh: Path) -> None:
    trees.parsed(TEXT, "<text>")
    assert not list(fresh.rglob("tree-*"))


def test_findings_are_found_each_time(fresh: Path) -> None:
    for _ in range(2):
        forget()
        assert [d.code for d in trees.parsed("block B {", "a.nl", True)[1]] == ["NL010"]
    assert not list(fresh.rglob("tree-*"))


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x05N."], ids=["empty", "broken", "no tree"])
def test_a_broken_file_is_made_anew(content: bytes, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = trees.parsed(TEXT, "a.nl", True)
    (path,) = fresh.rglob("tree-*")
    path.write_bytes(content)
    forget()
    assert trees.parsed(TEXT, "a.nl", True) == (made, [])
    assert again(TEXT, "a.nl", monkeypatch) == made


def test_a_cache_that_others_can_write_is_not_trusted(fresh: Path) -> None:
    made, _ = trees.parsed(TEXT, "a.nl", True)
    (path,) = fresh.rglob("tree-*")
    path.write_bytes(b"cos\nabort\n(tR.")  # would end the tests
    path.parent.chmod(0o777)
    forget()
    assert trees.parsed(TEXT, "a.nl", True) == (made, [])


def test_no_cache_is_needed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "file").write_text("")
    for place in (fresh / "file", fresh / "file" / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        forget()
        assert trees.parsed(TEXT, "a.nl", True)[1] == []


def test_the_oldest_go(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_FILES", 3)
    for number in range(5):
        trees.parsed(f"{TEXT} + {number}", "a.nl", True)
    assert len(list(fresh.rglob("tree-*"))) == 3
    assert again(f"{TEXT} + 4", "a.nl", monkeypatch)
