"""`nldsl equiv`: what it says of two programs, and its exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

RULES = """
block Delta(d = 2) over q: [d], k: [d], v: [d], beta: [] -> [d] {
  memory M = matrix(d) from zeros
  learn M : k -> v minimizing l2 by gd(beta) every token
  return M(q)
}
block ByHand(d = 2, share = 1) over a: [d], b: [d], c: [d], e: [] -> [d] {
  memory M = matrix(d) from zeros
  M <- M - share * e * outer(b, b @ M) + share * e * outer(b, c)
  return M(a)
}
block Hebb(d = 2) over q: [d], k: [d], v: [d], beta: [] -> [d] {
  memory M = matrix(d) from zeros
  learn M : k -> v minimizing dot by gd(beta) every token
  return M(q)
}
block Linear(d = 2) over x: [d] -> [d] { return x |> linear(d) }
block Matrix(d = 2, factor = 1) over x: [d] -> [d] {
  memory M = matrix(d)
  return factor * M(x)
}
block Two(d = 2) over x: [d] -> [d] {
  memory U = matrix(d)
  memory V = matrix(d)
  return U(V(x))
}
block Nothing(d = 2) over x: [d] -> [d] { return log(-x^2) }
block Never(d = 2) over x: [d] -> [d] { return sqrt(-1 - x^2) }
block Blocked(d = 2) over x: [d] -> [d] {
  memory M = matrix(d)
  return M(stop(x))
}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.nl"
    path.write_text(RULES)
    return path


def test_equal_programs(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:ByHand")
    assert (ran.code, ran.err) == (0, "")
    size, rest = ran.out.removeprefix("equal to ").split(" ", 1)
    assert 0 < float(size) < 1e-14
    assert rest == "over 20 draws of 1 to 40 tokens (outputs and gradients)\n"


def test_how_much_is_compared(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:Delta", "--draws", 1, "--length", 1)
    assert ran.out == "exactly equal over 1 draw of 1 token (outputs and gradients)\n"
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:Delta", "--draws", 3, "--length", 9)
    assert ran.out == "exactly equal over 3 draws of 1 to 9 tokens (outputs and gradients)\n"


def test_the_smallest_example_is_shown(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:Hebb", "--set", "d=1")
    assert (ran.code, ran.err) == (1, "")
    first, _, names, *rest = ran.out.splitlines()
    assert first.startswith("different: `Delta` and `Hebb` part at token 1, by ")
    assert names.split() == ["token", "q", "k", "v", "beta"]
    assert [line.split()[0] for line in rest[:2]] == ["0", "1"]
    place = rest.index("  output at token 1")
    values = [float(line.split("[")[1].rstrip("]")) for line in rest[place + 1 : place + 3]]
    assert [line.split()[0] for line in rest[place + 1 : place + 3]] == ["Delta", "Hebb"]
    assert float(first.rsplit(" ", 1)[1]) == pytest.approx(abs(values[0] - values[1]), rel=0.01)
    # The shown inputs, by hand: the first write is beta v k, of the second only Delta's looks at it.
    (_, k0, v0, beta0), (q, k, v, beta) = ([float(c.strip("[]")) for c in line.split()[1:]] for line in rest[:2])
    held = beta0 * v0 * k0
    assert values == pytest.approx([q * (held + beta * k * (v - k * held)), q * (held + beta * k * v)], abs=1e-5)


def test_long_values_are_shown_by_place(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:ByHand", "--set", "d=12", "--set", "share=1.001")
    assert ran.code == 1
    assert re.search(r"^  0( +\{\[\d+\]: 1\}){3}  1$", ran.out, re.MULTILINE)
    assert re.search(r"^    Delta   (\[\d+\]): 1\n    ByHand  \1: 1.001$", ran.out, re.MULTILINE)


def test_parameters_are_paired_and_shown(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Linear", f"{rules}:Matrix")
    assert ran.code == 0
    assert ran.out.startswith("parameters paired: `linear.w` = `M.w`\n\nexactly equal over 20 draws")
    ran = nldsl("equiv", f"{rules}:Linear", f"{rules}:Matrix", "--set-b", "factor=2")
    assert ran.code == 1
    assert "\n  linear.w  [[" in ran.out


def test_a_difference_of_gradients(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Matrix", f"{rules}:Blocked")
    assert ran.code == 1
    assert "`Matrix` and `Blocked` return the same, but their gradients part at token 0, by " in ran.out
    assert "  gradient by `x` of a random sum of what is returned at token 0\n" in ran.out
    assert "    Blocked  [0, 0]\n" in ran.out


def test_settings_of_both_and_of_one(nldsl: Any, rules: Path) -> None:
    pair = f"{rules}:Delta", f"{rules}:ByHand"
    assert nldsl("equiv", *pair, "--set", "share=1.001").code == 1, "only one of them has it"
    assert nldsl("equiv", *pair, "--set", "share=3", "--set-b", "share=1", "--set", "d=3").code == 0
    assert nldsl("equiv", *pair, "--set-a", "d=3", "--set-b", "d=3").code == 0
    ran = nldsl("equiv", *pair, "--set-a", "d=3")
    assert (ran.code, ran.out) == (1, "")
    assert "the inputs must have the same shapes in the same order" in ran.err
    ran = nldsl("equiv", *pair, "--set", "rate=1")
    assert (ran.code, ran.out) == (1, "")
    assert "neither program has a hyper-parameter `rate`; they have `d`, `share`" in ran.err
    assert "error[NL204]" in nldsl("equiv", *pair, "--set-a", "share=1").err


def test_parameters_without_a_partner(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Linear", f"{rules}:Two")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: these parameters have no partner: of `Linear` `linear.w` [2, 2]; of `Two` `U.w` [2, 2], `V.w` [2, 2]. "
        "Name the pairs, such as `--pair linear.w=U.w`\n"
    )
    ran = nldsl("equiv", f"{rules}:Linear", f"{rules}:Matrix", "--pair", "linear.w=W.w")
    assert (ran.code, ran.err) == (1, "error: `Matrix` has no parameter `W.w`; it has `M.w`\n")
    assert nldsl("equiv", f"{rules}:Linear", f"{rules}:Matrix", "--pair", "linear.w=M.w").code == 0


def test_nothing_to_compare(nldsl: Any, rules: Path) -> None:
    ran = nldsl("equiv", f"{rules}:Nothing", f"{rules}:Never")
    assert ran.code == 1
    assert ran.out == "nothing was compared: in all 20 draws both programs gave numbers that are not finite\n"


def test_skipped_draws_are_said(nldsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "poles.nl"
    path.write_text(
        "block A over x: [] -> [] { return where(x > 0.7, log(-x), x) }\n"
        "block B over x: [] -> [] { return where(x > 0.7, log(-x), 1 * x) }\n"
    )
    ran = nldsl("equiv", f"{path}:A", f"{path}:B")
    assert ran.code == 0
    assert "equal over " in ran.out
    assert ran.out.endswith(" skipped: both programs gave numbers that are not finite\n")


def test_the_same_seed_says_the_same(nldsl: Any, rules: Path) -> None:
    command = "equiv", f"{rules}:Linear", f"{rules}:Matrix", "--set", "factor=2", "--seed"
    first, again, other = (nldsl(*command, seed).out for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_period_that_is_not_reached_is_said(nldsl: Any, fine: Path) -> None:
    ran = nldsl("equiv", fine, fine, "--length", 3, "--draws", 2, "--set", "vocab=5")
    assert ran.code == 0
    assert "warning[NL903]" in ran.err
    assert "(outputs, losses and gradients)" in ran.out


@pytest.mark.parametrize(
    "arguments", [["--pair", "M.w"], ["--pair", "=M.w"], ["--pair", "a=b", "--pair", "a=c"], ["--set-a", "d"],
                  ["--draws", "0"], ["--tolerance", "0"], ["--length", "-1"]],
)  # fmt: skip
def test_usage(nldsl: Any, rules: Path, arguments: list[str]) -> None:
    ran = nldsl("equiv", f"{rules}:Delta", f"{rules}:ByHand", *arguments)
    assert (ran.code, ran.out) == (2, "")


def test_wrong_programs(nldsl: Any, rules: Path) -> None:
    assert "error[NL001]" in nldsl("equiv", rules, "missing.nl", "--set", "d=3").err
    assert "error[NL109]" in nldsl("equiv", f"{rules}:Delta", f"{rules}:Gamma").err
