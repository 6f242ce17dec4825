"""What texts become: trees, spans, numbers, doc strings."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from syntax.page import EXAMPLES

from nldsl.spans import Span
from nldsl.syntax import tree as t
from nldsl.syntax.parse import parse


def body(text: str) -> tuple[t.Statement, ...]:
    module, problems = parse(f"block B {{ {text} }}")
    assert not problems, problems
    return module.definitions[0].body


def value(text: str) -> t.Expr:
    (statement,) = body(f"x = {text}")
    assert isinstance(statement, t.Assign)
    return statement.value


def learn(text: str) -> t.Learn:
    (statement,) = body(text)
    assert isinstance(statement, t.Learn)
    return statement


def problem_codes(text: str) -> list[str]:
    return [problem.code for problem in parse(text)[1]]


a, b, c, f = (t.Name(n) for n in "abcf")


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_have_no_errors(text: str) -> None:
    assert parse(text)[1] == []


def test_a_page_of_text_is_parsed_at_once() -> None:
    parse(EXAMPLES[0])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        parse(EXAMPLES[0])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1  # about 0.01 on a quiet machine


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", t.Binary("+", a, t.Binary("*", b, c))),
        ("a - b - c", t.Binary("-", t.Binary("-", a, b), c)),
        ("a - (b - c)", t.Binary("-", a, t.Binary("-", b, c))),
        ("a ^ b ^ c", t.Binary("^", a, t.Binary("^", b, c))),
        ("-a ^ b", t.Unary("-", t.Binary("^", a, b))),
        ("a ^ -b", t.Binary("^", a, t.Unary("-", b))),
        ("-a * b", t.Binary("*", t.Unary("-", a), b)),
        ("not a == b and c", t.Binary("and", t.Unary("not", t.Binary("==", a, b)), c)),
        ("a or b and c", t.Binary("or", a, t.Binary("and", b, c))),
        ("a < -1", t.Binary("<", a, t.Unary("-", t.Number(1)))),
        ("a + b |> f(c)", t.Pipe(t.Binary("+", a, b), t.Call(f, (t.Argument(None, c),)))),
        ("a |> f |> b", t.Pipe(t.Pipe(a, f), b)),
        ("f(a)(b = c,)[0]", t.Index(t.Call(t.Call(f, (t.Argument(None, a),)), (t.Argument("b", c),)), t.Number(0))),
        ("[a, [], true,]", t.List((a, t.List(()), t.Number(True)))),
        ("h.Hope(a)", t.Call(t.Name("h.Hope"), (t.Argument(None, a),))),
    ],
)
def test_how_tightly_operators_bind(text: str, tree: t.Expr) -> None:
    assert value(text) == tree


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3), ("1e3", 1000), ("2.0", 2), ("0.9", Fraction(9, 10)), ("1e-3", Fraction(1, 1000)),
        ("2.5E+1", 25), ("007", 7), ("1e300", 10**300), ("1e-300", Fraction(1, 10**300)),
    ],
)  # fmt: skip
def test_numbers_are_exact(text: str, number: int | Fraction) -> None:
    node = value(text)
    assert isinstance(node, t.Number)
    assert node.value == number and type(node.value) is type(number)


@pytest.mark.parametrize("text", ["1e400", "1e999999999999", "9" * 310, "9" * 5000, "1e-401", "0." + "1" * 500])
def test_numbers_out_of_all_proportion(text: str) -> None:
    assert problem_codes(f"block B = {text}") == ["NL010"]


def test_truth_is_no_number() -> None:
    node = value("true")
    assert isinstance(node, t.Number) and node.value is True


def test_a_learn_with_every_clause() -> None:
    text = (
        "learn A, B : a -> b minimizing f retaining a by b every 16 tokens at slow hold state for 4 tokens"
        " over last 8 tokens weighted c weighted [a, b] times 2 when a > b through 64 tokens detached"
    )
    node = learn(text)
    assert node.targets == (t.Name("A"), t.Name("B"))
    assert (node.key, node.value, node.minimizing, node.retaining, node.by) == (a, b, f, a, b)
    assert node.every == t.Quantity(t.Number(16), "token")
    assert node.at == t.Name("slow")
    assert node.hold == t.Hold("state", t.Quantity(t.Number(4), "token"))
    assert node.over == t.Over(t.Quantity(t.Number(8), "token"), c)
    assert node.weighted == t.List((a, b))
    assert (node.times, node.when, node.detached) == (t.Number(2), t.Binary(">", a, b), True)
    assert node.through == t.Quantity(t.Number(64), "token")
    pieces = {clause.id: text[clause.span.column - 11 : clause.span.end_column - 11] for clause in node.clauses}
    assert list(pieces) == [
        "minimizing", "retaining", "by", "every", "at", "hold", "over", "weighted", "times", "when", "through",
        "detached",
    ]  # fmt: skip
    assert pieces["every"] == "every 16 tokens"
    assert pieces["hold"] == "hold state for 4 tokens"
    assert pieces["over"] == "over last 8 tokens weighted c"
    assert pieces["weighted"] == "weighted [a, b]"
    assert pieces["detached"] == "detached"


def test_a_clause_may_be_written_twice_and_the_first_counts() -> None:
    node = learn("learn * by a every step by b")
    assert node.targets == () and node.by == a
    assert [clause.id for clause in node.clauses] == ["by", "every", "by"]


def test_statements() -> None:
    one = t.Quantity(t.Number(1), "update")
    assert body("memory K[a], V = f from b reset every update") == (
        t.MemoryDecl((t.Target("K", a), t.Target("V")), f, b, t.Reset(every=one)),
    )
    assert body("state s[a]: [b] = c reset when a") == (
        t.StateDecl(t.Target("s", a), t.List((b,)), c, t.Reset(when=a)),
    )
    assert body("M <- a every a updates") == (t.Write(t.Name("M"), a, t.Quantity(a, "update")),)
    assert body("param w: [a, b] = c  level fast = every 2 steps") == (
        t.ParamDecl("w", t.List((a, b)), c),
        t.LevelDecl("fast", t.Quantity(t.Number(2), "step")),
    )
    assert body("repeat 3 as blocks { a, b = c } for p in a { } return a, b") == (
        t.Repeat(t.Number(3), (t.Assign((a, b), c),), "blocks"),
        t.For(t.Name("p"), a, ()),
        t.Return((a, b)),
    )
    assert body("if a { } else if b { a = b } else { b = a }") == (
        t.If(a, (), (t.If(b, (t.Assign((a,), b),), (t.Assign((b,), a),)),)),
    )


def test_definitions_and_imports() -> None:
    imports = "from std.hope import Hope, CMS as Chain import std.l2 as h import x "
    module, problems = parse(imports + "net f(a, b = 2,) over a: [b], b: c -> [a] = a")
    assert not problems
    assert module.imports == (
        t.Import(("std", "hope"), (t.ImportedName("Hope"), t.ImportedName("CMS", "Chain"))),
        t.Import(("std", "l2"), (), "h"),
        t.Import(("x",)),
    )
    assert module.definitions == (
        t.Definition(
            "net",
            f,
            (t.Parameter("a"), t.Parameter("b", t.Number(2))),
            (t.Port("a", t.List((b,))), t.Port("b", c)),
            (t.List((a,)),),
            (t.Return((a,)),),
            None,
            True,
        ),
    )


def test_spans_count_code_points_from_one() -> None:
    text = "# ∑ — 𝛈\nblock B {\r\n  # 𝛈𝛈\n  x = (a +\n  b) * c\n}"
    module, problems = parse(text, "b.nl")
    assert not problems
    (statement,) = module.definitions[0].body
    assert isinstance(statement, t.Assign) and isinstance(statement.value, t.Binary)
    assert module.span == module.definitions[0].span == Span("b.nl", 2, 1, 6, 2)
    assert statement.span == Span("b.nl", 4, 3, 5, 9)
    assert statement.names[0].span == Span("b.nl", 4, 3, 4, 4)
    assert statement.value.span == Span("b.nl", 4, 7, 5, 9)
    assert statement.value.left.span == Span("b.nl", 4, 7, 5, 5), "parentheses are part of what they hold"
    assert statement.value.right.span == Span("b.nl", 5, 8, 5, 9)


def test_doc_strings() -> None:
    module, problems = parse('"""Whole."""\n\n"""One\n   two\n     three\n\n"""\nblock A = 1\nblock B = 2')
    assert not problems
    assert module.doc == "Whole."
    assert [d.doc for d in module.definitions] == ["One\ntwo\n  three", None]
    assert parse('"""Whole."""\nimport a')[0].doc == "Whole."
    assert parse('"""A."""\nblock A = 1')[0].doc is None
    assert parse('""" "quoted" """ block A = 1')[0].definitions[0].doc == '"quoted"'


@pytest.mark.parametrize(
    "text",
    [
        'block A = 1 """end"""',
        '"""only"""',
        'block A { """inside""" return 1 }',
        '"""one""" """two""" import a',
        'import a """two""" """three""" block A = 1',
    ],
)
def test_doc_strings_that_document_nothing(text: str) -> None:
    assert problem_codes(text) == ["NL012"]


@pytest.mark.parametrize("text", ["", "  \n", "# only a comment"])
def test_nothing_is_defined(text: str) -> None:
    assert problem_codes(text) == ["NL002"]
