"""The grammar is LALR(1) without conflicts, its terminals all have names, and its tables are kept safely."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lark import Lark
from syntax.page import EXAMPLES

from nldsl.syntax import expected, grammar
from nldsl.syntax.lex import lex
from nldsl.syntax.parse import parse


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Each test loads the grammar anew, with its cache below this folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    grammar.grammar.cache_clear()
    yield tmp_path
    grammar.grammar.cache_clear()


def test_no_conflicts() -> None:
    text = grammar.SOURCE.read_text(encoding="utf-8")
    lark = Lark(text, parser="lalr", lexer="basic", strict=True, start="module", keep_all_tokens=True)
    assert not [terminal.name for terminal in lark.terminals if terminal.name.startswith("__")]


def test_every_terminal_has_a_word_for_the_user() -> None:
    for terminal in grammar.grammar()[0].terminals:
        if terminal.pattern.type == "str":
            assert expected.word(terminal.name) == f"`{terminal.pattern.value}`"


def test_keywords_are_keywords_everywhere() -> None:
    lark = grammar.grammar()[0]
    tokens = lex(lark, "level levels every everything a.level steps step_size", "").tokens
    types = ["LEVEL", "NAME", "EVERY", "NAME", "NAME", "DOT", "LEVEL", "STEPS", "NAME"]
    assert [token.type for token in tokens] == types


def test_the_tables_are_kept_in_the_users_own_cache(fresh: Path) -> None:
    assert parse(EXAMPLES[0])[1] == []
    (tables,) = fresh.rglob("tables-*")
    assert tables.parent.stat().st_mode & 0o077 == 0
    before = tables.stat().st_mtime_ns
    grammar.grammar.cache_clear()
    assert parse(EXAMPLES[0])[1] == []
    assert tables.stat().st_mtime_ns == before


def test_new_and_kept_tables_give_the_same_trees(fresh: Path) -> None:
    new = [parse(text) for text in EXAMPLES]
    grammar.grammar.cache_clear()
    # `==` alone takes a lark token for a string
    assert repr([parse(text) for text in EXAMPLES]) == repr(new)


def test_broken_tables_are_made_anew(fresh: Path) -> None:
    grammar.grammar()
    (tables,) = fresh.rglob("tables-*")
    tables.write_bytes(b"no pickle")
    grammar.grammar.cache_clear()
    assert parse(EXAMPLES[0])[1] == []


def test_a_cache_that_others_can_write_is_not_trusted(fresh: Path) -> None:
    (fresh / "nldsl").mkdir()
    (fresh / "nldsl").chmod(0o777)
    assert parse(EXAMPLES[0])[1] == []
    assert not list(fresh.rglob("tables-*"))


def test_no_cache_is_needed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "file").write_text("")
    for place in (fresh / "file", fresh / "file" / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        grammar.grammar.cache_clear()
        assert parse(EXAMPLES[0])[1] == []


def test_the_tree_alone_needs_no_parser() -> None:
    code = "import sys; from nldsl.syntax import tree, parse, print; sys.exit(bool({'lark', 'torch'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATH}).returncode == 0


PATH = os.pathsep.join(p for p in sys.path if p)
