"""Rules 3, 9, 10 and 12: aggregates, holds and loss periods."""

from __future__ import annotations

import pytest
from checks.programs import block, codes, found, model

M = "memory M = matrix(4)"
ETA = "eta = sigmoid(x |> linear(1))"


def test_a_rate_faster_than_its_learn() -> None:
    (finding,) = found(block(M, ETA, "learn M : x -> x minimizing l2 by gd(eta) every 4 tokens", "return M(x)"))
    assert finding.code == "NL401"
    assert finding.message == "`gd` acts every 4 tokens, and `eta` changes every token: which value is meant?"
    assert finding.alternatives == ("`window_mean(eta)`", "`window_sum(eta)`", "`window_last(eta)`", "`weighted eta`")
    assert finding.second is not None and finding.second[1] == "a new value every token"


@pytest.mark.parametrize(
    "learn",
    [
        "by gd(window_mean(eta)) every 4 tokens",
        "by gd(0.1) weighted eta every 4 tokens",
        "by gd(eta) every token hold gradient for 8 tokens",
        "by gd(0.1 / (tick + 1)) every 4 tokens weighted eta",
        "retaining decay(window_last(eta)) by gd(0.1) every 4 tokens",
    ],
)
def test_legal_rates(learn: str) -> None:
    assert codes(block(M, ETA, f"learn M : x -> x minimizing l2 {learn}", "return M(x)")) == []


@pytest.mark.parametrize("rule", ["retaining decay(eta) by gd(0.1)", "by gd(eta / (tick + 1))", "by gd(mean(x))"])
def test_other_places_of_a_rate(rule: str) -> None:
    assert "NL401" in codes(block(M, ETA, f"learn M : x -> x minimizing l2 {rule} every 4 tokens", "return M(x)"))


def test_slow_writes() -> None:
    state = "state s: [4] = 0"
    (finding,) = found(block(state, "h = 2 * x", "s <- s + h every 4 tokens", "return s"))
    assert (finding.code, finding.alternatives[1]) == ("NL401", "`window_sum(h)`")
    assert codes(block(state, "s <- s + window_sum(x) every 4 tokens", "return s")) == []
    decay = "M <- 0.5 * M every 4 tokens"  # its own running value is no stream of another clock
    assert codes(block(M, "learn M : x -> x minimizing l2 by gd(0.1) every token", decay, "return M(x)")) == []
    rule = "optimizer o over g {\n  state s = 0\n  s <- s + g every 4 updates\n  return s\n}\n"
    assert "NL401" in codes(rule + block(M, "learn M : x -> x minimizing l2 by o every token", "return M(x)"))


def test_a_step_takes_numbers() -> None:
    lines = ("memory W, R = matrix(4)", "loss = sum(W(x)^2)", "learn W minimizing loss by gd(sum(R(x))) every step",
             "learn * minimizing loss by gd(0.1) every step", "return x")  # fmt: skip
    assert "NL203" in codes(model(*lines))


def test_holds() -> None:
    learn = "learn M : x -> x minimizing l2 by gd(0.1) every 4 tokens hold state for {} tokens"
    (finding,) = found(block(M, learn.format(6), "return M(x)"))
    assert (finding.code, finding.alternatives) == ("NL403", ("`4 tokens`", "`8 tokens`"))
    assert codes(block(M, learn.format(8), "return M(x)")) == []
    assert codes(block(M, learn.format(8), learn.format(16), "return M(x)")) == ["NL403"]
    assert codes(block(M, learn.format(8), learn.format(8), "return M(x)")) == []


def paces(first: str, second: str) -> str:
    return model(
        "memory F, G = matrix(4)", "loss = sum((G(F(x)) - next(x))^2)",
        f"learn F minimizing loss by gd(0.1) every {first}", f"learn G minimizing loss by gd(0.1) every {second}",
        "learn * minimizing loss by gd(0.1) every step", "return x",
    )  # fmt: skip


def test_loss_periods() -> None:
    (finding,) = found(paces("128 tokens", "192 tokens"))
    assert (finding.code, finding.alternatives) == ("NL404", ("`128 tokens`", "`256 tokens`"))
    assert finding.second is not None and finding.second[0].line == 4
    assert codes(paces("256 tokens", "128 tokens")) == []
    assert codes(paces("128 tokens through 192 tokens", "128 tokens")) == ["NL404"]
    assert codes(paces("128 tokens through 256 tokens", "128 tokens")) == []
    (note,) = found(paces("16 tokens", "32 tokens"))
    assert (note.code, note.severity) == ("NL904", "note")
