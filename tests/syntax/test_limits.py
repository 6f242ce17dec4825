"""Files that can't be read, and texts beyond all measure: one finding, at once, and no exception."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nldsl.syntax.lex import MOST_BRACKETS, MOST_LEVELS, MOST_TOKENS
from nldsl.syntax.parse import MOST_BYTES, parse, read
from nldsl.syntax.print import show


def inside(text: str) -> str:
    return f"block A {{ {text} }}"


N = 10_000
DEEP = {
    "parentheses": "(" * N,
    "lists": inside("x = " + "[" * N + "]" * N),
    "bodies": "block A { " + "repeat 1 { " * N,
    "sums": inside("x = a" + " + a" * N),
    "powers": inside("x = 2" + " ^ 2" * N),
    "pipes": inside("x = a" + " |> f" * N),
    "minus": inside("x = " + "- " * N + "a"),
    "not": inside("x = " + "not " * N + "a"),
    "calls": inside("x = f" + "()" * N),
    "indices": inside("x = f" + "[0]" * N),
    "else if": inside("if a { }" + " else if b { x = 1 }" * N),
    "else": inside("else " * N),
    "arguments": inside("x = " + "f(a, b = " * N + "1" + ")" * N),
    "both sides": inside("x = " + "(a + a + " * N + "1" + " + a + a)" * N),
    "parameters": "block A(a = " * N,
    "unclosed": inside("x = f(a\n" * N),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_nested_too_deeply(text: str) -> None:
    start = time.perf_counter()
    module, (problem,) = parse(text)
    assert problem.code == "NL005" and module.definitions == ()
    assert time.perf_counter() - start < 2


K, L = MOST_BRACKETS - 2, MOST_LEVELS - 2
NEARLY = {
    "parentheses": "x = " + "(" * K + "a" + ")" * K,
    "bodies": "repeat 1 { " * K + "}" * K,
    "arguments": "x = " + "f(a, b = " * (K - 2) + "1" + ")" * (K - 2),
    "sums": "x = a" + " + a" * L,
    "pipes": "x = a" + " |> f" * L,
    "powers": "x = 2" + " ^ 2" * L,
    "minus": "x = " + "- " * L + "a",
    "calls": "x = f" + "()" * L,
    "else if": "if a { }" + " else if b { x = 1 }" * L,
    "flat": "x = [" + "a * b + f(c), " * 1000 + "]",
    "statements": "if a < b { x = a + 1 }\n" * 1000,
}


@pytest.mark.parametrize("text", NEARLY.values(), ids=NEARLY)
def test_nested_nearly_too_deeply(text: str) -> None:
    module, problems = parse(inside(text))
    assert not problems
    again, problems = parse(show(module))
    assert not problems and again == module and hash(again) == hash(module) and repr(again) == repr(module)


LONG = {
    "bytes": "x" * (MOST_BYTES + 1),
    "tokens": inside("x = 1 " * MOST_TOKENS),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_too_long(text: str) -> None:
    assert [p.code for p in parse(text)[1]] == ["NL004"]


@pytest.mark.parametrize("noise", ["$ ", "'", '"', "\0", "é", "9", "\\", "="])
def test_noise_is_dealt_with_at_once(noise: str) -> None:
    text = noise * (900_000 // len(noise))
    start = time.perf_counter()
    assert 1 <= len(parse(text)[1]) <= 20
    assert time.perf_counter() - start < 5


# Files


def codes(path: str | os.PathLike[str]) -> list[str]:
    text, problems = read(path)
    assert not (text and problems)
    return [p.code for p in problems]


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.nl").write_bytes("\ufeffblock A = 1 # ∑\r\n".encode())
    assert read(tmp_path / "a.nl") == ("block A = 1 # ∑\r\n", [])


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    assert codes(tmp_path / "none.nl") == ["NL001"]
    assert codes(tmp_path) == ["NL001"]
    assert codes("a\0b") == ["NL001"]
    assert codes("a" * 5000) == ["NL001"]
    os.mkfifo(tmp_path / "pipe")
    assert codes(tmp_path / "pipe") == ["NL001"]


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is open to root")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a.nl").touch(mode=0)
    assert codes(tmp_path / "a.nl") == ["NL001"]


@pytest.mark.parametrize("data", [b"block\nA\xff", b"block\nA\0", b"block\nA\xe2\x82"])
def test_files_that_are_no_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.nl").write_bytes(data)
    _, (problem,) = read(tmp_path / "a.nl")
    assert problem.code == "NL003" and "byte 7 is 0x" in problem.message
    assert (problem.span.line, problem.span.column) == (2, 2)


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    with open(tmp_path / "a.nl", "wb") as file:
        file.truncate(MOST_BYTES * 1000)
    start = time.perf_counter()
    assert codes(tmp_path / "a.nl") == ["NL004"]
    assert time.perf_counter() - start < 1
