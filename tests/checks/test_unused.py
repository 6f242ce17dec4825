"""Warnings: what never learns, what nothing reads, what is due too late."""

from __future__ import annotations

import pytest
from checks.programs import block, codes, found, model

LEARN = "learn {} : x -> x minimizing l2 by gd(0.1) every {}"


@pytest.mark.parametrize(
    "lines",
    [
        ("memory M = matrix(4) from zeros", "return x + M(x)"),
        ("state s: [4] = 1", "return x * s"),
        ("memory A = attention()", "return A(x)"),
        ("memory A = attention(persistent = 2)", "return A(x)"),
    ],
)
def test_never_learns(lines: tuple[str, ...]) -> None:
    (finding,) = found(block(*lines))
    assert (finding.code, finding.severity) == ("NL901", "warning")


def test_learns() -> None:
    assert codes(block("memory M = matrix(4)", "return M(x)")) == []  # its start is a parameter
    assert codes(block("state s: [4] = 1", "s <- 0.5 * s + x", "return s")) == []
    assert codes(block("memory M = matrix(4) from zeros", LEARN.format("M", "token"), "return M(x)")) == []


def test_a_fixed_start_has_nothing_for_a_step_to_learn() -> None:
    text = model("memory M = matrix(4) from zeros", "memory W = matrix(4)", "loss = sum((M(x) + W(x) - next(x))^2)",
                 "learn M minimizing loss by gd(0.1) every step", "learn * minimizing loss by gd(0.1) every step",
                 "return x")  # fmt: skip
    assert codes(text) == ["NL107"]


@pytest.mark.parametrize(
    ("lines", "dead"),
    [
        (("memory M = matrix(4)", LEARN.format("M", "token"), "return x"), True),
        (("memory M = matrix(4)", "M <- 0.9 * M", LEARN.format("M", "token"), "return x"), True),
        (("memory A = attention()", "learn A : x -> x every token", "return x"), True),
        (("memory M = matrix(4)", LEARN.format("M", "token"), "return M(x)"), False),
        (("memory M, N = matrix(4)", LEARN.format("M", "token"),
          "learn N : M(x) -> x minimizing l2 by gd(0.1) every token", "return N(x)"), False),
        (("memory M = matrix(4)", "memory N = matrix(4) from M reset every 4 tokens", LEARN.format("M", "token"),
          LEARN.format("N", "token"), "return N(x)"), False),
    ],
)  # fmt: skip
def test_unread(lines: tuple[str, ...], dead: bool) -> None:
    findings = found(block(*lines))
    assert [d.code for d in findings] == ["NL902"] * dead
    assert all(d.severity == "warning" for d in findings)


def test_too_late() -> None:
    lines = ("memory M = matrix(4)", LEARN.format("M", "64 tokens"), "memory N = matrix(4)",
             LEARN.format("N", "32 tokens"), "state s = 0", "s <- s + 1 every 16 tokens",
             "return s * M(x) + N(x)")  # fmt: skip
    text = block(*lines)
    assert codes(text) == codes(text, length=64) == []
    assert codes(text, length=40) == ["NL903"]
    assert [d.message.partition(" tokens")[0][-2:] for d in found(text, length=8)] == ["64", "32", "16"]


def test_a_reset_before_the_write() -> None:
    learn = (LEARN.format("M", "8 tokens"), "return M(x)")
    assert codes(block("memory M = matrix(4) reset every 4 tokens", *learn)) == ["NL903"]
    assert codes(block("memory M = matrix(4) reset every 8 tokens", *learn)) == []
