"""Hypothesis strategies for syntax trees: every kind of node, every field, in the form that `parse` gives them."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from nldsl.syntax import tree as t
from nldsl.syntax.build_tree import doc_text
from nldsl.syntax.grammar import SOURCE

KEYWORDS = frozenset(re.findall(r'^[A-Z_]+: "([a-z]+)"$', SOURCE.read_text(encoding="utf-8"), re.MULTILINE))
KINDS = ("block", "model", "net", "optimizer", "objective", "retention")
OPERATORS = ("+", "-", "*", "/", "%", "^", "@", "<", "<=", ">", ">=", "==", "!=", "and", "or")


def spelled(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda word: word not in KEYWORDS)


words = st.sampled_from(["x", "y", "M", "eta", "loss", "tokenize", "int", "F_2"]) | spelled(
    "[A-Za-z_][A-Za-z0-9_]{0,9}"
)
names = words.map(t.Name)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(strategy: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=least, max_size=most).map(tuple)


def number(value: Fraction) -> t.Number:
    return t.Number(value.numerator if value.denominator == 1 else value)


decimals = st.builds(
    lambda digits, tens: Fraction(digits, 10**tens), st.integers(0, 10**9), st.integers(-20, 20).map(abs)
)
numbers = (
    st.integers(0, 10**20).map(t.Number)
    | decimals.map(number)
    | st.builds(lambda digits, power: number(digits * Fraction(10) ** power), st.integers(0, 99), st.integers(-99, 99))
    | st.booleans().map(t.Number)
)
dotted = st.lists(words, min_size=2, max_size=3).map(".".join).map(t.Name)


def _compound(inner: st.SearchStrategy[t.Expr]) -> st.SearchStrategy[t.Expr]:
    arguments = st.builds(t.Argument, maybe(words), inner)
    return st.one_of(
        st.builds(t.Binary, st.sampled_from(OPERATORS), inner, inner),
        st.builds(t.Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(t.Pipe, inner, inner),
        st.builds(t.Call, inner, some(arguments)),
        st.builds(t.Index, inner, inner),
        st.builds(t.List, some(inner)),
    )


def named(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same strategy with a short repr: a failure prints it, and what is built of it many times over."""
    return st.composite(lambda draw: draw(strategy))()


expressions = named(st.recursive(names | numbers | dotted, _compound, max_leaves=8))
lists = some(names | numbers).map(t.List)
units = st.sampled_from(["token", "update", "step", "sequence"])
quantities = st.builds(t.Quantity, st.just(t.Number(1)) | numbers | names | expressions, units)
targets = st.builds(t.Target, words, maybe(expressions))
resets = st.builds(t.Reset, every=quantities) | st.builds(t.Reset, when=expressions)

CLAUSES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("minimizing", "retaining", "by", "weighted", "times", "when"), expressions),
    **dict.fromkeys(("every", "through"), quantities),
    "at": names,
    "hold": st.builds(t.Hold, st.sampled_from(["gradient", "state"]), quantities),
    "over": st.builds(t.Over, quantities, maybe(expressions)),
    "detached": st.just(True),
}


@st.composite
def learns(draw: st.DrawFn) -> t.Learn:
    """Clauses in any order, some of them repeated."""
    order = draw(st.lists(st.sampled_from(sorted(CLAUSES)), max_size=7))
    values = {word: draw(CLAUSES[word]) for word in order}
    if ("over", "weighted") in pairwise(order) and values["over"].weight is None:
        values["over"] = t.Over(values["over"].length, draw(expressions))  # the weight behind it would be its own
    key, value = draw(maybe(st.tuples(expressions, expressions))) or (None, None)
    written = tuple(t.Name(word) for word in order)
    return t.Learn(draw(some(names)), key=key, value=value, clauses=written, **values)


simple = st.one_of(
    st.builds(t.Assign, some(names, 1), expressions),
    st.builds(t.MemoryDecl, some(targets, 1), expressions, maybe(expressions), maybe(resets)),
    st.builds(t.ParamDecl, words, lists, expressions),
    st.builds(t.StateDecl, targets, maybe(lists), expressions, maybe(resets)),
    st.builds(t.Write, names, expressions, maybe(quantities)),
    st.builds(t.LevelDecl, words, quantities),
    st.builds(t.Return, some(expressions, 1)),
    learns(),
)


def _bodies(inner: st.SearchStrategy[t.Statement]) -> st.SearchStrategy[t.Statement]:
    body = some(inner, most=2)
    return st.one_of(
        st.builds(t.Repeat, expressions, body, maybe(words)),
        st.builds(t.For, names, expressions, body),
        st.builds(t.If, expressions, body, body),
    )


statements = named(st.recursive(named(simple), _bodies, max_leaves=4))
docs = st.text(max_size=30).filter(lambda s: '"""' not in s + "'").map(lambda s: doc_text(f'"""{s}"""'))
parameters = st.builds(t.Parameter, words, maybe(expressions))
shapes = lists | names
ports = st.builds(t.Port, words, maybe(shapes))


@st.composite
def definitions(draw: st.DrawFn) -> t.Definition:
    short = draw(st.booleans())
    body = (t.Return((draw(expressions),)),) if short else draw(some(statements))
    head = draw(names), draw(some(parameters)), draw(some(ports)), draw(some(shapes))
    return t.Definition(draw(st.sampled_from(KINDS)), *head, body, draw(maybe(docs)), short)


paths = st.lists(words, min_size=1, max_size=3).map(tuple)
imports = st.one_of(
    st.builds(t.Import, paths, some(st.builds(t.ImportedName, words, maybe(words)), 1)),
    st.builds(t.Import, paths, st.just(()), maybe(words)),
)


@st.composite
def modules(draw: st.DrawFn) -> t.Module:
    above = draw(some(imports, most=2))
    inside = draw(some(definitions(), least=0 if above else 1, most=2))
    documented = bool(above) or inside[0].doc is not None  # otherwise its doc string would be that of the definition
    return t.Module(above, inside, draw(maybe(docs)) if documented else None)
