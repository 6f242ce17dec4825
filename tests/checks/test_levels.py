"""Rule 18: no two memories are each inner to the other."""

from __future__ import annotations

from checks.programs import block, codes, found

LEARN = "learn {} : {} -> x minimizing l2 by gd(0.1) every {}"


def pair(a: str, b: str) -> str:
    return block("memory A, B = matrix(4)", LEARN.format("A", "x", a), LEARN.format("B", "A(x)", b),
                 LEARN.format("A", "B(x)", a), "return A(x)")  # fmt: skip


def test_each_inner_to_the_other() -> None:
    (finding,) = found(pair("token", "token"))
    assert finding.code == "NL602"
    assert "`A` and `B`" in finding.message
    assert finding.second is not None and finding.second[0] != finding.span


def test_the_shorter_period_is_inner() -> None:
    assert codes(pair("token", "4 tokens")) == []


def test_one_direction() -> None:
    lines = (LEARN.format("A", "x", "token"), LEARN.format("B", "A(x)", "token"), "M = A(B(x))", "return M")
    assert codes(block("memory A, B = matrix(4)", *lines)) == []
    assert codes(block("memory A = matrix(4)", "A <- 0.9 * A", LEARN.format("A", "x", "token"), "return A(x)")) == []
