"""How trees are printed: the style of the language's own examples, in lines of about 100 columns."""

from __future__ import annotations

from fractions import Fraction

import pytest
from syntax.page import EXAMPLES

from nldsl.syntax import tree as t
from nldsl.syntax.parse import parse
from nldsl.syntax.print import WIDTH, show
from nldsl.syntax.print_expression import number


def printed(text: str) -> str:
    module, problems = parse(text)
    assert not problems, problems
    return show(module)


STYLE = '''\
"""Everything once."""

from std.hope import Hope, CMS as Chain
import std.l2 as l2

objective l2 over y, t = 0.5 * sum((y - t)^2)
retention decay(keep) over w, u = keep * w + u

"""A net."""
net mlp(d, expand = 4, out = d) over x: [d] -> [out] {
  param up: [d, expand * d] = normal(d ^ -0.5)
  return gelu(x @ up) @ -down
}

block Empty {}

block A(dim, rate = 1e-3) over x: [dim], ids: int -> [dim] {
  level slow = every 16 tokens
  memory K[heads], V = mlp(dim) |> unit from zeros reset every 4 sequences
  state s[heads]: [dim] = 0 reset when x > 1e100
  s <- rate * s + 0.25 * (x |> f(a = 1)) every 2 updates
  if a < -1 and not (b or c) {
    x = y[0]
  } else if b {
    y, z = split(x)
  } else {
    learn K : x -> x minimizing l2 by gd(rate) every token detached
  }
  repeat 3 as blocks {
    for p in [1, 2] {}
  }

  learn K, V : x |> rmsnorm -> self(v)
    minimizing l2
    retaining erase(alpha, eta)
    by gd(eta)
    hold state for chunk tokens

  learn * minimizing loss every step
  return x, y
}
'''


def test_the_style() -> None:
    assert printed(STYLE) == STYLE


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_keep_their_lines(text: str) -> None:
    """Up to blank lines, columns that are aligned, and comments."""

    def lines(text: str) -> list[str]:
        return [" ".join(line.split("#")[0].split()) for line in text.split("\n") if line.strip()]

    assert lines(printed(text)) == lines(text)


def test_long_lines_are_broken_where_they_are_least_deep() -> None:
    names = ", ".join(f"a_long_parameter_{i} = {i}" for i in range(8))
    terms = " + ".join(f"some_function(argument_{i}, other = [{i}, {i}])" for i in range(6))
    pipes = " |> ".join(["x", *(f"linear(a_long_width_{i})" for i in range(8))])
    text = printed(f"block A({names}) over x: [d] -> [d] {{ y = {terms} return {pipes} }}")
    lines = text.split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if line.startswith("    over")] == ["    over x: [d] -> [d] {"]
    assert all(line.lstrip().startswith(("y =", "+ ")) for line in lines if "some_function" in line)
    assert all(line.lstrip().startswith(("return", "|> ")) for line in lines if "a_long_width" in line)
    assert printed(text) == text


def test_what_can_not_be_broken_is_left_long() -> None:
    name = "n" * 300
    assert printed(f"block A = {name} + {name}") == f"block A = {name}\n    + {name}\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (7, "7"), (1000000, "1000000"), (10**100, "1e100"), (True, "true"), (False, "false"),
        (Fraction(9, 10), "0.9"), (Fraction(1, 100), "0.01"), (Fraction(1, 1000), "1e-3"), (Fraction(1, 8), "0.125"),
        (Fraction(4, 10000), "4e-4"), (Fraction(12345, 100), "123.45"), (Fraction(15, 10**9), "1.5e-8"),
        (Fraction(1, 3), "1 / 3"), (Fraction(-1, 4), "-0.25"), (-3, "-3"),
    ],
)  # fmt: skip
def test_numbers_are_as_short_as_they_can_be(value: int | Fraction, text: str) -> None:
    assert number(value) == text


def test_numbers_that_no_literal_writes_are_put_in_parentheses() -> None:
    third, negative = t.Number(Fraction(1, 3)), t.Number(-2)
    tree = t.Binary("^", third, t.Binary("^", negative, third))
    module = t.Module((), (t.Definition("block", t.Name("A"), (), (), (), (t.Return((tree,)),), None, True),))
    assert show(module) == "block A = (1 / 3) ^ (-2) ^ (1 / 3)\n"
