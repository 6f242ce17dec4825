"""The gradient contract, held against autograd through the reference interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.programs import block, built, codes, found, model
from nldsl.compiler.reference import Interpreter

from nldsl.checks.gradients import Row, contract

M = "memory M = matrix(4)"
K, V = "k = x |> linear(4)", "v = x |> linear(4)"
ETA = "eta = sigmoid(x |> linear(1))"
LEARN = "learn M : {} minimizing {} {} every token"


def learns(pair: str = "k -> x", by: str = "by gd(0.1)", objective: str = "l2", after: str = "") -> str:
    return f"{LEARN.format(pair, objective, by)} {after}".strip()


def rows(text: str, **hyper: Any) -> dict[str, Row]:
    return {r.parameter: r for r in contract(built(text, **hyper))}


def dead(text: str) -> set[str]:
    return {name for name, row in rows(text).items() if not row.reached and row.role != "fixed start"}


def without_gradient(text: str) -> set[str]:
    """The parameters that autograd finds no gradient for, at random values."""
    graph = built(text)
    machine = Interpreter(graph, seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in machine.parameters.values():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    if graph.loss:
        losses, _ = machine.losses(x)
        total = torch.stack([loss for row in losses for loss in row]).sum()
    else:
        outs, _ = machine.run(x)
        total = sum(((o * torch.randn_like(o)).sum() for o in outs), torch.zeros((), dtype=torch.float64))
    names = list(machine.parameters)
    if not total.requires_grad:
        return set(names)
    gradients = torch.autograd.grad(total, [machine.parameters[n] for n in names], allow_unused=True)
    return {n for n, g in zip(names, gradients, strict=True) if g is None or not g.any()}


FRESH = "retention fresh over w, u = u\n"
LION = "optimizer lion(lr) over g = -lr * sign(g)\n"
PROGRAMS = {
    "read through stop": (block(M, K, learns(), "return x + stop(M(x))"), {"M.w", "k.linear.w"}),
    "v is never used": (block(M, K, V, learns(), "return M(x)"), {"v.linear.w"}),
    "only the sign of the error": (block(M, K, V, learns("k -> v", objective="lp(1)"), "return M(x)"), {"v.linear.w"}),
    "a smooth error": (block(M, K, V, learns("k -> v", objective="huber(1)"), "return M(x)"), set()),
    "overwritten, read below": (FRESH + block(M, K, learns("k -> x", "retaining fresh by gd(1)", "dot"),
                                              "return M(x)"), {"M.w"}),
    "overwritten, read above": (FRESH + block(M, K, "y = M(x)", learns("k -> x", "retaining fresh by gd(1)", "dot"),
                                              "return y"), set()),
    "overwritten, but its error is taken first": (FRESH + block(M, K, learns("k -> x", "retaining fresh by gd(1)"),
                                                                "return M(x)"), set()),
    "detached, the rate kept": (block(M, K, ETA, learns(by="by gd(eta)", after="detached"), "return M(x)"),
                                {"k.linear.w"}),
    "detached, the factor kept": (block(M, K, ETA, learns(after="weighted eta detached"), "return M(x)"),
                                  {"k.linear.w"}),
    "an optimizer that takes signs": (LION + block(M, K, ETA, learns(by="by lion(eta)"), "return M(x)"),
                                      {"k.linear.w"}),
    "a memory inside an optimizer": (block(M, K, learns(by="by deep_momentum(0.1)"), "return M(x)"), set()),
    "the same, detached": (block(M, K, learns(by="by deep_momentum(0.1)", after="detached"), "return M(x)"),
                           {"k.linear.w"}),
    "a condition": (block(M, K, learns("x -> x", after="when sum(k) > 0"), "return M(x)"), {"k.linear.w"}),
    "where": (block(K, V, "return where(k > 0, v, x)"), {"k.linear.w"}),
    "rounded": (block(M, "f = floor(x |> linear(4))", learns("f -> x"), "return M(x |> conv(2))"), {"f.linear.w"}),
    "a window": (block(M, ETA, "learn M : x -> x minimizing l2 by gd(window_mean(eta)) every 2 tokens", "return M(x)"),
                 set()),
    "written": (block(M, K, "state s: [4] = 0", "M <- 0.5 * M", "s <- 0.9 * s + k", "return M(x) + s"), set()),
    "replaced": (block(M, K, "M <- outer(k, x)", "return M(x)"), {"M.w"}),
    "starts": (block("memory A = matrix(4)", "memory M = matrix(4) from A", "memory D = matrix(4) from 2 * stop(start)",
                     learns("x -> x"), "learn D : x -> x minimizing l2 by gd(0.1) every token", "return M(x) + D(x)"),
               {"D.w"}),
    "pairs": (block("memory M = attention(persistent = 2)", K, V, "learn M : k -> v every token detached",
                    "return M(x)"), {"k.linear.w", "v.linear.w"}),
    "joint": (block("memory M, W = matrix(4)", K, "learn M, W minimizing l2(W(M(x)), k) by gd(0.1) every token",
                    "return M(x)"), set()),
    "a term the gradient does not see": (block(
        M, K, "learn M minimizing sum(self(x)^2) + sum(k^2) by gd(0.1) every token", "return M(x)"), {"k.linear.w"}),
    "another memory inside": (block("memory M, N = matrix(4)", "learn M minimizing l2(N(self(x)), x) by gd(0.1) every "
                                    "token hold gradient for 2 tokens", "return M(x)"), set()),
    "held": (block(M, K, learns(after="hold state for 2 tokens"), "return M(x)"), set()),
    "over": (block(M, K, ETA, learns(after="over last 2 tokens weighted sum(eta)"), "return M(x)"), set()),
    "momenta": (block(M, K, ETA, learns(by="retaining sphere() by momentum(eta, eta)"), "return M(x)"), set()),
    "total norm": ("optimizer clipped(lr) over g = -lr * g / (1 + total_norm(g))\n"
                   + block(M, K, learns(by="by clipped(0.1)"), "return M(x)"), set()),
    "erase": (block(M, K, V, ETA, learns("k -> v", "retaining erase(0.9, eta) by gd(eta)"), "return M(x)"), set()),
    "from the loss": (model(M, K, "loss = sum((M(k) - next(x))^2)", "learn M minimizing loss by gd(0.1) every 2 tokens",
                            "learn * minimizing loss by gd(0.1) every step", "return x"), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_against_autograd(name: str) -> None:
    text, expected = PROGRAMS[name]
    assert dead(text) == expected == without_gradient(text)
    assert ("NL702" in codes(text)) == bool(expected)


@pytest.mark.parametrize(
    ("name", "why", "line"),
    [
        ("read through stop", "`stop` blocks every gradient", 5),
        ("v is never used", "`v` is never used", 0),
        ("only the sign of the error", "the slope of `abs` is a step", 0),
        ("detached, the rate kept", "`learn M` is `detached`", 5),
        ("a condition", "a comparison (`>`) has no gradient", 4),
        ("an optimizer that takes signs", "`sign` has no gradient", 1),
        ("replaced", "it is overwritten before it is read", 0),
        ("rounded", "`floor` has no gradient", 3),
        ("a term the gradient does not see", "`k` is used in `learn M` alone, which passes no gradient to it", 4),
    ],
)
def test_the_cutting_edge(name: str, why: str, line: int) -> None:
    finding = next(d for d in found(PROGRAMS[name][0]) if d.code == "NL702")
    assert finding.message.endswith(f": {why}")
    assert not line or (finding.second is not None and finding.second[0].line == line)


def test_ways() -> None:
    text = block(M, "memory N = matrix(4) from zeros", K, "q = x |> linear(4)", learns(),
                 "learn N : M(x) -> x minimizing l2 by gd(0.1) every token", "return N(q)")  # fmt: skip
    found_rows = rows(text)
    assert found_rows["q.linear.w"].way == "directly"
    assert found_rows["M.w"].way == "through learn N, learn M"  # read below its write
    assert found_rows["k.linear.w"].through == ("learn N", "learn M")
    assert (found_rows["M.w"].role, found_rows["q.linear.w"].role) == ("initial state", "weight")
    assert (found_rows["N.w"].role, found_rows["N.w"].reached) == ("fixed start", True)


def test_dead_memories_have_one_word() -> None:
    text = block(M, K, learns(), "return x")
    assert codes(text) == ["NL702", "NL902"]  # the projection for a learn that nothing reads, and that learn
    assert "`M` is never read" in found(text)[0].message


STEP = "learn * minimizing loss by gd(0.1) every step"
LOSS = "loss = sum((x |> linear(4))^2)"


def test_nothing_learns() -> None:
    (finding,) = found(model(LOSS, "return x"))
    assert (finding.code, finding.message) == ("NL701", "nothing learns `loss.linear.w`")
    two = model(
        "memory A, B = matrix(4)", "loss = sum(A(B(x)))", "learn A minimizing loss by gd(0.1) every step", "return x"
    )
    assert [d.message for d in found(two)] == ["nothing learns `B.w`"]
    assert codes(block("return x |> linear(4)")) == []  # a block is learned by who uses it


def test_learned_twice() -> None:
    assert codes(model(LOSS, STEP, STEP, "return x")) == ["NL703"]
    named = "learn A minimizing loss by gd(0.1) every step"
    lines = ("memory A = matrix(4)", "loss = sum(A(x))")
    assert codes(model(*lines, named, named, "return x")) == ["NL703"]
    assert codes(model(*lines, named, "return x")) == []
    assert codes(model(*lines, named, STEP, "return x")) == ["NL902"]  # nothing is left for the star


def test_a_local_objective_of_a_step_is_a_loss_too() -> None:
    lines = ("memory W, Z = matrix(4)", "{}", "loss = sum(Z(x)^2)", STEP, "return x")
    local = "learn W : x -> x minimizing l2 by gd(0.1) every step"
    assert codes(model(*lines).replace("{}", local)) == []
    blocked = "learn W minimizing sum(stop(self(x))^2) by gd(0.1) every step"
    (finding,) = found(model(*lines).replace("{}", blocked))
    assert finding.code == "NL702"
    assert finding.message.startswith("no gradient of the objective of `learn W` reaches `W.w`")


def test_copies_are_reported_once() -> None:
    text = model(
        "repeat 3 { x = x + stop(x |> linear(4)) }", "loss = sum(x^2) + sum((x |> linear(4))^2)", STEP, "return x"
    )
    (finding,) = found(text)
    assert finding.message.endswith("and 1 more: `stop` blocks every gradient")
