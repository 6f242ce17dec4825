"""Every text is a program or gets diagnostics, never an exception; and what checks, runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws.programs import Program, checked, laws, machine, programs

from nldsl.codes import CODES
from nldsl.program import Result, front_end

PIECES = re.compile(r'"""|[A-Za-z_][A-Za-z_0-9]*|[0-9.]+|\s+|<-|->|\|>|.', re.DOTALL)
WORDS = """model block net optimizer objective retention memory param state learn minimizing retaining by every at hold
gradient for last weighted times when through detached reset repeat in if else return level or and not true false token
tokens step steps update updates sequence over from import as x y d M self data next loss tick l2 gd decay matrix mlp
linear std int 0 1 2 0.5 1e-3 99 ( ) [ ] { } = == < <- -> |> + - * / % @ ^ , : . # f M(x) {d}"""
TOKENS = [*WORDS.split(), '"""', "\n"]
NOTHINGS = ["", " ", "\n", "#", '"""', "model", "block B", "\0", "\ufeff", "é", "1e999", "((((" * 200]
FRAMES = [("", ""), ("block B(d = 2) over x: [d] {", "return x }"), ("net n over x: [2] {", "}")]
NUMBERS = ["0", "1", "2", "3", "-1", "0.5", "1e3", "7"]


def total(text: str, read: Callable[[str], Result]) -> Result:
    """A graph, or errors, or definitions for others to use; each finding has a code of the table."""
    try:
        result = read(text)
    except Exception as error:
        raise AssertionError(f"{error!r} on\n{text}") from error
    errors = [f for f in result.findings.items if f.severity == "error"]
    assert bool(errors) == bool(result.findings.errors), text
    assert errors or result.graph is not None or _library(result), text
    for finding in result.findings.items:
        assert finding.code in CODES and finding.message and finding.severity in ("error", "warning", "note"), text
    return result


def _library(result: Result) -> bool:
    """A text that defines things and no program of its own: no model, and no block that needs nothing."""
    definitions = result.module.definitions.values() if result.module else ()
    whole = [d for d in definitions if d.kind in ("model", "block")]
    return bool(definitions) and all(any(p.default is None for p in d.parameters) for d in whole)


@st.composite
def soups(draw: st.DrawFn) -> str:
    """Words of the language in any order, now and then inside a block."""
    words = " ".join(draw(st.lists(st.sampled_from(TOKENS), max_size=30)))
    before, after = draw(st.sampled_from(FRAMES))
    return f"{before} {words} {after}"


@st.composite
def mutated(draw: st.DrawFn, numbers: tuple[str, ...] = (*NUMBERS, "1e9", "99999")) -> str:
    """A valid program after one to three changes: pieces or lines deleted, doubled, exchanged, or of another name."""
    text = draw(programs()).text
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(["name", "number", "line", "lines", "delete", "replace", "swap"]))
        by_line = change in ("line", "lines")
        pieces = text.splitlines(keepends=True) if by_line else PIECES.findall(text)
        places = [
            i for i, p in enumerate(pieces)
            if by_line or (p[0].isalpha() if change == "name" else p[0].isdigit() if change == "number" else p.strip())
        ]  # fmt: skip
        i, j = (places[draw(st.integers(0, len(places) - 1))] for _ in range(2))
        if change == "name":
            pieces[i] = pieces[j]
        elif change == "number":
            pieces[i] = draw(st.sampled_from(numbers))
        elif change == "replace":
            pieces[i] = draw(st.sampled_from(TOKENS))
        elif change in ("lines", "swap"):
            pieces[i], pieces[j] = pieces[j], pieces[i]
        else:
            del pieces[i]
        text = "".join(pieces)
    return text


@laws(200, shrink=True)
@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    total(text, checked)


@laws(300, shrink=True)
@given(soups())
def test_words_in_any_order(text: str) -> None:
    total(text, checked)


@laws(250)
@given(mutated())
def test_programs_with_changes(text: str) -> None:
    total(text, checked)


@laws(120)
@given(mutated(numbers=tuple(NUMBERS[:6])))
def test_what_checks_runs(text: str) -> None:
    """Two sequences of six ticks, whatever the changes have made of the program."""
    result = total(text, checked)
    if result.graph is None or result.findings.errors:
        return
    ports = tuple((p.id, None if p.dtype == "int" else tuple(map(int, p.shape))) for p in result.graph.tick.inputs)
    drawn = Program(text, ports, False, False, False, Counter())
    with torch.no_grad():
        machine(result.graph).run(drawn.inputs(6))


@pytest.mark.parametrize("text", NOTHINGS)
def test_texts_of_nothing(text: str) -> None:
    total(text, checked)


# Mutants


def test_a_front_end_that_raises_is_noticed() -> None:
    def raising(text: str) -> Result:
        return checked(text) if text.count("{") == text.count("}") else [][len(text)]

    with pytest.raises(AssertionError, match="IndexError"):
        total("block B {", raising)


def test_a_front_end_that_says_nothing_is_noticed() -> None:
    def silent(text: str) -> Result:
        result = front_end("silent.nl", text=text)
        result.findings.items.clear()
        result.findings.errors.clear()
        return result

    with pytest.raises(AssertionError):
        total("block B over x { return y }", silent)
