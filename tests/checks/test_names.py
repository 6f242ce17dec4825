"""Names are looked up over the whole text, also where no program uses it."""

from __future__ import annotations

import pytest
from checks.programs import block, codes, found

USED = "block Used over x: [4] -> [4] = x\n"


def one(text: str) -> tuple[str, str, str]:
    (finding,) = found(text)
    return finding.code, finding.message, finding.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (block("return gellu(x)"), "there is no `gellu` here", "did you mean `gelu`?"),
        (block("width4 = 2 * x", "return widht4"), "there is no `widht4` here", "did you mean `width4`?"),
        (block("memory Fast = matrix(4)", "learn Fats : x -> x minimizing l2 by gd(0.1) every token",
               "return Fast(x)"), "there is no memory `Fats` here", "did you mean `Fast`?"),
        ("net n(d) over x: [d] -> [d] {\n  param w: [d, d] = norml(0.1)\n  return x @ w\n}\n" + USED,
         "there is no start `norml`", "did you mean `normal`?"),
        ("optimizer o(lr) over g = -rate_of * g\n" + USED, "there is no `rate_of` here", ""),
        ("import std.hope as h\nblock B over x: [4] -> [4] = x |> h.CSM(4)\n", "there is no `h.CSM` here",
         "did you mean `h.CMS`?"),
    ],
)  # fmt: skip
def test_unknown(text: str, message: str, hint: str) -> None:
    assert one(text) == ("NL101", message, hint)


def test_every_definition_is_read_and_every_name_once() -> None:
    text = "net a over x: [n] = x * foo\nnet b over x: [n] = x * bar\n" + block("return x |> a")
    assert [(d.code, d.span.line) for d in found(text)] == [("NL101", 1), ("NL101", 2)]


@pytest.mark.parametrize(
    "text",
    [
        "net n over x: [n] -> [m] {\n  param w: [n, n] = uniform(-n ^ -0.5, 1)\n  return x @ w\n}\n" + USED,
        "optimizer o over g: [n, m] = -zeros(n, m) * tick\n" + USED,
        "retention r over w, u, start = w + u - start\n" + USED,
        block("memory M = matrix(4) from 2 * start", "learn M minimizing l2(self(x), x) by gd(0.1) every token",
              "return M(x)"),
        block("for p in [1, 2] { y = p * x }", "return y"),
        block("if 1 < 2 { y = x } else { y = -x }", "return y"),
        block("mean = mean(x) + x", "return mean"),
        "net mlp(d) over x: [d] -> [d] { param w: [d, d] = zeros return x @ w }\n" + block("return x |> mlp(4)"),
    ],
)  # fmt: skip
def test_right(text: str) -> None:
    assert codes(text) == []


def test_used_above() -> None:
    (finding,) = found(block("y = 2 * h", "h = x + 1", "return y"))
    assert (finding.code, finding.message) == ("NL108", "`h` is used above its definition")
    assert finding.second is not None and finding.second[0].line == 3
    assert codes("net n(a = b, b = 1) over x: [d] = a * b * x\n" + USED) == ["NL108"]
    assert codes(block("learn M : x -> x minimizing l2 by gd(1) every token", "memory M = matrix(4)",
                       "return M(x)"))[0] == "NL108"  # fmt: skip


def test_cycles_are_shown() -> None:
    (finding,) = found(block("a = b + x", "c = 0.5 * a", "b = c", "return b"))
    assert finding.code == "NL501"
    assert finding.message == "`a` depends on itself within one tick: `a` -> `b` -> `c` -> `a`"
    (finding,) = found(block("a = a + x", "return a"))
    assert finding.message == "`a` depends on itself within one tick: `a` -> `a`"
    assert codes(block("state b: [4] = 0", "a = b + x", "b <- 0.5 * a", "return a")) == []


def test_a_loop_needs_a_first_value() -> None:
    (finding,) = found(block("repeat 2 {", "  y = h + x", "  h = 2 * y", "}", "return y"))
    assert (finding.code, finding.hint) == ("NL108", "give it a first value above the loop")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (block("return x |> B"), "`B` -> `B`"),
        ("block C over x: [4] -> [4] = x |> B\n" + block("return x |> C"), "`C` -> `B` -> `C`"),
        ("net a over x: [n] = b(x)\nnet b over x: [n] = a(x)\n" + USED, "`a` -> `b` -> `a`"),
    ],
)
def test_rings(text: str, shown: str) -> None:
    assert one(text)[:2] == ("NL112", f"a definition can't apply itself: {shown}")


@pytest.mark.parametrize(
    "text",
    [
        "net n(d, d) over x: [d] = x\n" + USED,
        "objective o over y, y = sum(y)\n" + USED,
        "net n(d) over d: [4] = d\n" + USED,
        "net n(d) over x: [d] {\n  param w: [d] = ones\n  param w: [d] = zeros\n  return x * w\n}\n" + USED,
        block("memory M = matrix(4)", "memory M = matrix(4)", "return M(x)"),
        "block C over x: [4] -> [4] {\n  state s: [4] = 0\n  s = x\n  return s\n}\n" + block("return x"),
        block("tick = x", "return x"),
        "net tick over x: [n] = x\n" + USED,
    ],
)
def test_twice(text: str) -> None:
    assert "NL102" in codes(text)
    assert not {"NL107", "NL110", "NL101"} & set(codes(text))


def test_copies_are_one_finding() -> None:
    text = block("repeat 3 { memory M = matrix(4) from zeros x = x + M(x) }", "return x")
    assert codes(text) == ["NL901"]


def test_a_failed_import_is_said_once() -> None:
    assert codes("from std.hoope import Hope\n" + block("return x |> Hope")) == ["NL103"]


def test_levels_that_nothing_uses() -> None:
    learn = "learn M : x -> x minimizing l2 by gd(0.1) at fast"
    lines = ("level fast = every 4 tokens", "memory M = matrix(4)", learn, "return M(x)")
    assert codes(block(*lines)) == []
    (finding,) = found(block("level slow = every 8 tokens", *lines))
    assert (finding.code, finding.severity) == ("NL902", "warning")
    assert "`at slow`" in finding.message
