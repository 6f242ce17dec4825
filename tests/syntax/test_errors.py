"""What a text that breaks the grammar is told: where, in which words, and how to go on."""

from __future__ import annotations

import pytest

from nldsl.diagnostics import Diagnostic
from nldsl.spans import Span
from nldsl.syntax import tree as t
from nldsl.syntax.parse import parse


def problems(text: str) -> list[Diagnostic]:
    return parse(text)[1]


def inside(text: str) -> str:
    return f"block A(d) over x: [d] {{\n{text}\n}}\n"


# a body, the text that is underlined, the message, and (a part of) the hint
ROWS = [
    # habits from other languages
    ("x = a ** 2", "**", "unexpected `**`", "a power is written `a ^ b`"),
    ("x := 3", ":=", "unexpected `:=`", "a value is bound with `=`"),
    ("x += 3", "+=", "unexpected `+=`", "write `x = x + …`"),
    ("x = a // b", "//", "unexpected `//`", "a comment begins with `#`"),
    ("x = a & b", "&", "unexpected `&`", "write `and`"),
    ("x = a || b", "||", "unexpected `||`", "write `or`"),
    ("x = a | f", "|", "unexpected `|`", "a pipe is `|>`"),
    ("x = !a", "!", "unexpected `!`", "write `not`"),
    ("x = a; y = b", ";", "unexpected `;`", "leave it out"),
    ("x = a ≤ b", "≤", "unexpected `≤`", "write `<=`"),
    ("x = 'text'", "'text'", "unexpected `'`", "there are no strings"),
    ("η = 3", "η", "unexpected character `η`", "names are made of"),
    ("x = 3 $ 4", "$", "unexpected character `$`", ""),
    ("x =\u00a03", "\u00a0", "unexpected character U+00A0 (no-break space)", "write a plain space"),
    ("x = lambda y: y", "lambda", "`lambda` is no word of the language", "define a `net`"),
    ("let y = 3", "let", "`let` is no word of the language", "a stream is bound with"),
    ("while x < 3 { y = 2 }", "while", "`while` is no word of the language", "repeat n"),
    ("if x { } elif y { }", "elif", "`elif` is no word of the language", "write `else if`"),
    ("for p in ps: y = 3", ":", "expected `{`, found `:`", "a body stands in braces"),
    ("if x = 3 { }", "=", "`=` binds a name, and a value is expected here", "`==` compares"),
    ("return x if y else z", "else", "expected `{`, found `else`", "where(c, a, b)"),
    ("x = .5", ".", "unexpected `.`", "digits on both sides"),
    # keywords as names, words misspelt
    ("level = 3", "level", "`level` is a word of the language and can't be a name", "choose another name"),
    ("x = step + 1", "step", "`step` is a word of the language and can't be a name", "choose another name"),
    ("y = f(every = 3)", "every", "`every` is a word of the language and can't be a name", "choose another name"),
    ("memroy M = f(d)", "memroy", "unexpected `memroy`", "did you mean `memory`?"),
    ("learn M minimising l2", "minimising", "unexpected `minimising`", "did you mean `minimizing`?"),
    # operators
    ("x = a |> f + 1", "+", "the right side of `|>` is a single term, so `+` can't follow it", "`(x |> f) + …`"),
    ("x = a <-1", "<-", "`<-` writes to a state or memory, and a value is expected here", "`x < -1` compares"),
    ("x = a < b < c", "< c", "comparisons do not chain", "write `a < b and b < c`"),
    ("x = a b", "b", "expected an operator between `a` and `b`", ""),
    ("x = f(a b)", "b", "expected `,`, `)` or an operator between `a` and `b`", ""),
    ("x = 3 4", "4", "expected an operator between `3` and `4`", ""),
    ("f(x)", "f", "an expression alone is no statement", "bind it to a name"),
    # brackets
    ("x = f(a, b]", "]", "found `]`, but `(` is still open", ""),
    ("x = a + )", ")", "expected an expression, found `)`", ""),
    ("x = a)", ")", "`)` closes nothing", ""),
    ("x = f(a\ny = 3", "y", "expected `)`, found `y`", ""),
    # what was expected
    ("x =\ny = 3", "=\n", "expected an expression after `=`", ""),
    ("learn M minimizing every token", "every", "expected an expression, found `every`", ""),
    ("learn M by f every", "}", "expected a period such as `16 tokens`, found `}`", ""),
    ("learn M every 16", "}", "expected a unit such as `tokens`, found `}`", ""),
    ("learn M hold x for 3 tokens", "x", "expected `gradient` or `state`, found `x`", ""),
    ("state s", "}", "expected `:`, `=` or `[`, found `}`", ""),
    ("x = 1e999", "1e999", "this number is too large", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "marked", "message", "hint"), ROWS, ids=[row[0] for row in ROWS])
def test_one_mistake_is_one_finding(text: str, marked: str, message: str, hint: str) -> None:
    whole = inside(text)
    (problem,) = problems(whole)
    at = whole.rindex(marked) if marked == "}" else whole.index(marked, whole.index("{\n"))
    line, column = whole.count("\n", 0, at) + 1, at - whole.rfind("\n", 0, at)
    width = len(marked.strip("\n").split(" ")[0]) if not marked.isspace() else 1
    assert problem.span == Span("<text>", line, column, line, column + width)
    assert problem.message == message
    assert hint in problem.hint and bool(hint) == bool(problem.hint)
    assert problem.code == ("NL011" if message.startswith("unexpected") and marked[0] in "&|!;≤'η$\u00a0" else "NL010")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 3", "expected a definition, found `x`"),
        ("}", "`}` closes nothing"),
        ("model", "expected a name, found the end of the text"),
        ("block A {", "expected `}` or a statement, found the end of the text"),
        ("block A { x = 3\nmodel B = 2", "expected `}` or a statement, found `model`"),
        ("block A\n  x = 3\n}", "expected `(`, `->`, `=`, `over` or `{`, found `x`"),
        ("from std.hope import *", "expected a name, found `*`"),
        ("def f(x) { return x }", "`def` is no word of the language"),
        ("blok A(d) { return 3 }", "unexpected `blok`"),
        ('"""open\nblock A = 1', "this doc string has no end"),
    ],
)
def test_outside_of_bodies(text: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.message == message


def test_an_open_bracket_is_shown() -> None:
    (problem,) = problems("block A {\n  x = f(a\n  y = 3\n}")
    assert problem.second == (Span("<text>", 2, 8, 2, 9), "opened here")
    (problem,) = problems("block A {\n  x = 3\n")
    assert problem.second == (Span("<text>", 1, 9, 1, 10), "opened here")
    (problem,) = problems("block A {\n  y = x |> f > 1\n}")
    assert problem.second == (Span("<text>", 2, 9, 2, 11), "this pipe")


MANY = """\
block A(x y) over x {
  x = 3 +
  memory M = f(d
  learn M : k -> v minimising l2 retaining decay(0.9) by gd(0.1)
    every 16
  repeat {
    y = 3
  }
  repeat 4 { y = ) }
  y = [1, 2)
  return y
}

blok B = 3
model C {
  level = 3
  f(x)
  return -
model D = 2
"""


def test_independent_mistakes_are_each_reported_once() -> None:
    module, found = parse(MANY)
    assert [(p.span.line, p.message) for p in found] == [
        (1, "expected `)`, `,` or `=`, found `y`"),
        (3, "expected an expression, found `memory`"),
        (4, "expected `)`, found `learn`"),
        (4, "unexpected `minimising`"),
        (6, "expected an expression, found `{`"),
        (9, "expected an expression, found `)`"),
        (10, "found `)`, but `[` is still open"),
        (14, "unexpected `blok`"),
        (16, "`level` is a word of the language and can't be a name"),
        (17, "an expression alone is no statement"),
        (19, "expected an expression, found `model`"),
    ]
    assert [d.name.id for d in module.definitions] == ["A", "B", "C", "D"]


def test_what_can_be_made_out_is_kept() -> None:
    module, found = parse("block A {\n  x = 1\n  y = )\n  z = 3\n}\nmodel B = 2")
    assert len(found) == 1
    assert [len(d.body) for d in module.definitions] == [2, 1]
    assert module.definitions[0].body[1] == t.Assign((t.Name("z"),), t.Number(3))


@pytest.mark.parametrize("line", ["x = )", "x = a ** 2", "x = $ 3", "level = 3"])
def test_at_most_twenty_are_reported(line: str) -> None:
    assert len(problems(inside(f"{line}\n" * 100))) == 20
