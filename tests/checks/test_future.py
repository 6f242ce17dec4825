"""Rule 4: what `next` touches reaches `loss` and nothing else."""

from __future__ import annotations

import pytest
from checks.programs import block, codes, found, model

M = "memory M = matrix(4)"
T = "t = 2 * next(x)"
LEARN = "learn M : {} minimizing l2 by gd(0.1) every token"


@pytest.mark.parametrize(
    "lines",
    [
        (T, "return t"),
        (T, M, LEARN.format("x -> t"), "return M(x)"),
        (T, M, LEARN.format("t -> x"), "return M(x)"),
        (T, M, "learn M : x -> x minimizing l2 by gd(sum(t)) every token", "return M(x)"),
        (T, M, LEARN.format("x -> x") + " weighted sum(t)", "return M(x)"),
        (T, M, LEARN.format("x -> x") + " when sum(t) > 0", "return M(x)"),
        (T, M, LEARN.format("x -> x") + " over last 2 tokens weighted sum(t)", "return M(x)"),
        (T, "memory M = matrix(4) reset when sum(t) > 0", LEARN.format("x -> x"), "return M(x)"),
        (T, "state s: [4] = 0", "s <- t", "return s"),
        (T, "memory A = attention()", "learn A : t -> x every token", "return A(x)"),
    ],
)
def test_leaks(lines: tuple[str, ...]) -> None:
    findings = [d for d in found(block(*lines)) if d.code == "NL502"]
    assert len(findings) == 1
    second = findings[0].second
    assert second is not None and (second[0].line, second[1]) == (2, "this looks ahead")


def test_the_path_is_shown() -> None:
    (finding,) = found(block(T, "u = t + x", "return u"))
    assert finding.message == "what `B` returns knows the next tick already"
    assert finding.values == (("path", "next(x) -> t -> u -> what `B` returns"),)


def test_what_keeps_its_input_is_no_way_to_the_loss() -> None:
    wrong = model("p = x |> linear(4)", "loss = sum((p - (next(x) |> conv(2)))^2)",
                  "learn * minimizing loss by gd(0.1) every step", "return p")  # fmt: skip
    assert "NL502" in codes(wrong)


def test_the_loss_may_look_ahead() -> None:
    right = model("p = x |> linear(4)", T, "loss = sum((p - t)^2)", "learn * minimizing loss by gd(0.1) every step",
                  "return p")  # fmt: skip
    assert codes(right) == []
    assert "NL502" in codes(right.replace("return p", "return p + t"))
