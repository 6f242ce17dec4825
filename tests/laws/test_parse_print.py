"""parse(show(m)) == m for every tree, parse is total on texts, spans say where nodes stand, and mutants are caught."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laws.trees import modules
from syntax.page import EXAMPLES

from nldsl.spans import Span
from nldsl.syntax import build_tree, print_expression
from nldsl.syntax import print as printer
from nldsl.syntax import tree as t
from nldsl.syntax.grammar import grammar
from nldsl.syntax.lex import MOST_PROBLEMS
from nldsl.syntax.parse import parse
from nldsl.syntax.print import show

small = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def same_again(module: t.Module) -> None:
    text = show(module)
    again, problems = parse(text)
    assert not problems, (problems, text)
    # `==` alone takes `true` for 1
    assert again == module and repr(again) == repr(module), text
    assert show(again) == text


def nodes(node: t.Node) -> Iterator[t.Node]:
    yield node
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, t.Node):
                yield from nodes(child)


def cut_out(text: str, span: Span) -> str:
    lines = text.split("\n")[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    return "\n".join([lines[0][span.column - 1 :], *lines[1:]])


@small
@given(modules())
def test_what_is_printed_parses_to_the_same_tree(module: t.Module) -> None:
    same_again(module)


@small
@given(modules())
def test_every_node_stands_within_the_one_that_holds_it(module: t.Module) -> None:
    text = show(module)
    for node in nodes(parse(text)[0]):
        assert node.span.file == "<text>" and cut_out(text, node.span).strip() != ""
        for child in nodes(node):
            assert start(node.span) <= start(child.span) < end(child.span) <= end(node.span)


@small
@given(modules(), st.randoms(use_true_random=False))
def test_the_text_at_a_span_is_what_the_node_says(module: t.Module, random: Random) -> None:
    text = show(module)
    again, _ = parse(text)
    everything = list(nodes(again))
    clauses = [c for node in everything if isinstance(node, t.Learn) for c in node.clauses]
    for clause in clauses:
        assert cut_out(text, clause.span).split()[0] == clause.id
    implied = [q.count for q in everything if isinstance(q, t.Quantity) and q.count.span == q.span]  # `every token`
    written = {id(n) for n in everything} - {id(n) for n in [*clauses, *implied]}
    for node in random.sample(everything, min(8, len(everything))):
        piece = cut_out(text, node.span)
        if isinstance(node, t.Expr) and id(node) in written:
            assert parse(f"block B = {piece}")[0].definitions[0].body == (t.Return((node,)),), piece
        if isinstance(node, t.Statement) and (not isinstance(node, t.Return) or piece.startswith("return")):
            assert parse(f"block B {{ {piece} }}")[0].definitions[0].body == (node,), piece


def start(span: Span) -> tuple[int, int]:
    return span.line, span.column


def end(span: Span) -> tuple[int, int]:
    return span.end_line, span.end_column


PIECES = re.compile(r'"""|[A-Za-z_]+|[0-9.]+|\s+|<-|->|\|>|.', re.DOTALL)
STRANGE = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "=",
    "<-",
    "|>",
    "->",
    "every",
    "level",
    "token",
    ",",
    ":",
    "**",
    "&",
    '"""',
    "1e999",
]


@st.composite
def broken_texts(draw: st.DrawFn) -> str:
    """An example with some pieces deleted, doubled, exchanged or replaced."""
    pieces = PIECES.findall(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        i, j = draw(st.integers(0, len(pieces) - 2)), draw(st.integers(0, len(pieces) - 2))
        change = draw(st.sampled_from(["delete", "double", "exchange", "replace", "cut"]))
        if change == "delete":
            del pieces[i]
        elif change == "double":
            pieces.insert(i, pieces[i])
        elif change == "exchange":
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif change == "replace":
            pieces[i] = draw(st.sampled_from(STRANGE))
        elif i > 3:
            pieces = pieces[: max(i, 3)]
    return "".join(pieces)


def total(text: str) -> None:
    module, problems = parse(text)
    assert len(problems) <= MOST_PROBLEMS
    if not problems:
        same_again(module)
    lines = text.split("\n")
    terminals = {terminal.name for terminal in grammar()[0].terminals}
    for problem in problems:
        span = problem.span
        assert (1, 1) <= (span.line, span.column) <= (span.end_line, span.end_column)
        assert span.end_line <= len(lines) and span.end_column <= len(lines[span.end_line - 1]) + 1
        prose = re.sub(r"`[^`]*`", "", problem.message + problem.hint)
        assert not terminals & set(re.findall(r"[A-Z_]{2,}", prose)), problem.message
    assert len({p.span for p in problems}) == len(problems), "one place, two findings"


@small
@given(st.text())
def test_any_text_has_a_tree_or_a_finding(text: str) -> None:
    total(text)


@small
@given(st.lists(st.sampled_from([*STRANGE, "block", "x", " ", "\n", "3", "learn", "#", "f(", "over"]), max_size=30))
def test_any_row_of_tokens_has_a_tree_or_a_finding(pieces: list[str]) -> None:
    total(" ".join(pieces))


@settings(small, max_examples=300)
@given(broken_texts())
def test_a_broken_example_has_a_tree_or_a_finding(text: str) -> None:
    total(text)


# Mutants: each breaks the printer or the builder on purpose, and the law has to notice.


def looser(patch: pytest.MonkeyPatch) -> None:
    for symbol in "+-":
        patch.setitem(print_expression.BINDING, symbol, 7)


def chained(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(print_expression, "COMPARISON", -1)


def no_period(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(printer, "_quantity", lambda quantity: [print_expression.Piece(quantity.unit)])


def lost_clause(patch: pytest.MonkeyPatch) -> None:
    clause = printer.clause
    patch.setattr(printer, "clause", lambda learn, word: [] if word == "detached" else clause(learn, word))


def rounded(patch: pytest.MonkeyPatch) -> None:
    exact = build_tree.exact
    patch.setattr(build_tree, "exact", lambda text: int(exact(text)))


def lost_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(printer, "_reset", lambda reset: [])


MUTANTS = [looser, chained, no_period, lost_clause, rounded, lost_reset]


@pytest.fixture(scope="module")
def many_modules() -> list[t.Module]:
    found: list[t.Module] = []

    @settings(small, database=None, derandomize=True, max_examples=200)
    @given(modules())
    def collect(module: t.Module) -> None:
        found.append(module)

    collect()
    tight = "block B() over x: [1] -> [1] { a = (x - (x - 1)) * 2  b = (x < 1) == (x < 2)  return where(b, a, 0.5) }"
    clauses = "learn M : x -> x minimizing l2 by gd(0.1) every 4 tokens detached"
    kept = f"block C() over x: [1] -> [1] {{ memory M = matrix(1) reset every 8 tokens  {clauses}  return M(x) }}"
    return [parse(tight)[0], parse(kept)[0], *found]


def holds(module: t.Module) -> bool:
    try:
        same_again(module)
    except AssertionError:
        return False
    return True


def test_the_law_holds_without_a_mutant(many_modules: list[t.Module]) -> None:
    assert all(map(holds, many_modules))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.__name__))
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], many_modules: list[t.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert not all(map(holds, many_modules))
