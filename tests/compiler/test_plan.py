"""Which lowering each memory gets, and that token by token comes to the same."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.distribute import Loop, Together
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.plan import planned

import nldsl
from nldsl.graph import Stream

BLOCK = """
block B(dim = 4, heads = 2) over x: [dim] -> [dim] {{
  d = dim / heads
  memory M[heads] = {net}{reset}
  h = x |> split(heads)
  k = h |> unit
  {above}
  {learn}
  {below}
  return y |> merge
}}
"""


TAUGHT = "learn M : k -> h minimizing l2 "
SELF = "learn M : k -> self(h) minimizing l2 "


def block(learn: str, net: str = "residual_mlp(d)", above: str = "", below: str = "y = M(h)", reset: str = "") -> str:
    return BLOCK.format(learn=learn, net=net, above=above, below=below, reset=reset)


MODEL = """
model M(vocab = 7, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory F = mlp(dim)
  x = x + F(x)
  logits = x |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn F minimizing loss by gd(0.1) every 4 tokens detached
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""

# memory's lowering -> the programs meant for it
PROGRAMS = {
    "recurrence": [
        block(TAUGHT + "by gd(0.1) every token"),
        block(TAUGHT + "by gd(0.1) every token hold state for 4 tokens", reset=" reset when sum(x) > 1"),
        block(TAUGHT + "by gd(sigmoid(h)) every token", net="matrix(d)"),
        block("learn M : k -> h minimizing huber(1) by gd(0.1) every token", net="matrix(d)"),
        block("learn M : k -> M(h) minimizing l2 by gd(0.1) every token detached", net="matrix(d)"),
        block("learn M : unit(M(k)) -> h minimizing l2 by gd(0.1) every token", net="matrix(d)"),
        block(TAUGHT + "by adam(0.1) every token", net="matrix(d)"),
    ],
    "closed form": [
        block("M <- 0.9 * M"),
        block("M <- 0.9 * M", net="matrix(d)"),
        block(TAUGHT + "by gd(0.1) every token", net="matrix(d)"),
        block(TAUGHT + "by gd(0.1) every token", net="matrix(d)", above="y = M(h)", below=""),
        block("M <- sigmoid(sum(h)) * M\n  " + TAUGHT + "by gd(0.1) every token", net="matrix(d)"),
        block(TAUGHT + "weighted sigmoid(sum(h)) retaining erase(0.9, 0.1) by gd(0.1) every token", net="matrix(d)"),
        block(TAUGHT + "retaining decay(0.9) by momentum(0.1, sigmoid(sum(h))) every token", net="matrix(d)"),
        block(TAUGHT + "retaining erase(0.9, 0.1) by nesterov(0.1) every token", net="matrix(d)"),
        block(
            "learn M : k -> h minimizing dot by momentum(0.1) every token",
            net="matrix(d)",
            above="learn M : h -> k minimizing dot by momentum(0.05, 0.5) every token",
        ),
        block("learn M : k -> h - 0.5 * M(2 * k) minimizing dot by gd(0.1) every token", net="matrix(d)"),
        block("learn M : k -> h minimizing dot by gd(0.1) every token", net="linear_bias(d)"),
        block(TAUGHT + "by momentum(0.1) every token hold state for 4 tokens"),
        block(TAUGHT + "by gd(0.1) every token hold gradient for 4 tokens"),
        block(TAUGHT + "by momentum(0.1) retaining decay(0.9) every token hold gradient for 4 tokens"),
        block(TAUGHT + "by nesterov(0.1) retaining erase(0.9, 0.2) every token hold gradient for 4 tokens"),
        block(TAUGHT + "by gd(0.1) every token hold gradient for 4 tokens", above="y = M(h)", below=""),
        block(TAUGHT + "by muon(0.1) every token hold state for 4 tokens"),
        block(TAUGHT + "by adamw(0.1) every token hold gradient for 4 tokens"),
        block("learn M : k -> h minimizing lp(3) by adam(0.1) every token hold state for 40 tokens"),
        block(
            TAUGHT
            + "over last 3 tokens weighted sigmoid(sum(h)) by momentum(0.1) every token hold gradient for 4 tokens"
        ),
        block(TAUGHT + "over last 6 tokens retaining decay(0.9) by muon(0.1) every token hold gradient for 4 tokens"),
        block(TAUGHT + "by gd(0.1) every token hold state for 4 tokens"),
        block(SELF + "retaining erase(0.9, 0.1) by gd(0.1) every token hold state for 4 tokens"),
        block(TAUGHT + "by dgd(sigmoid(sum(h))) every token hold state for 4 tokens"),
    ],
    "held state": [
        block(TAUGHT + "retaining elastic(0.9, 0.01) by gd(0.1) every token hold state for 4 tokens"),
    ],
    "held gradient": [
        block(TAUGHT + "retaining sphere by gd(0.1) every token hold gradient for 4 tokens"),
    ],
    "windowed write": [
        block(TAUGHT + "by muon(0.1) every 4 tokens"),
        block(TAUGHT + "by gd(0.1) every 4 tokens", above="y = M(h)", below=""),
    ],
    "sliding objective": [block(TAUGHT + "by gd(0.1) every token over last 3 tokens")],
    "attention": [
        block("learn M : k -> h every token", net="attention()"),
        block("learn M : k -> h every token", net="attention(window = 3)"),
    ],
    "loss segments": [MODEL],
}  # fmt: skip
CASES = [(name, text) for name, texts in PROGRAMS.items() for text in texts]


def inputs(graph: nldsl.LevelGraph, ticks: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if graph.kind == "model":
        return torch.randint(7, (2, ticks), generator=generator)
    return torch.randn(2, ticks, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("lowering", "text"), CASES)
def test_each_lowering_is_chosen_for_the_programs_meant_for_it(lowering: str, text: str) -> None:
    plan = planned(nldsl.load_text(text))
    assert [c.lowering for c in plan.choices] == [lowering]
    assert all(reason for c in plan.choices for _, reason in c.refused)


@pytest.mark.parametrize(("lowering", "text"), CASES)
def test_token_by_token_comes_to_the_same(lowering: str, text: str) -> None:
    graph = nldsl.load_text(text)
    found = {}
    for only in ("", "recurrence"):
        module = CompiledModule(graph, dtype=torch.float64, only=only)
        x = inputs(graph, 21)
        sources = [*module.parameters(), *([x.requires_grad_()] if x.is_floating_point() else [])]
        out, state = module(x)
        gradients = torch.autograd.grad((out**2).sum(), sources, allow_unused=True)
        weights = module.weights(state)
        found[only] = [out, *(g for g in gradients if g is not None), *(weights[n] for n in sorted(weights))]
    for fast, slow in zip(found[""], found["recurrence"], strict=True):
        scale = max(1.0, float(torch.linalg.vector_norm(slow.detach())))
        assert torch.linalg.vector_norm(fast - slow) <= 1e-10 * scale


def lengths(stages: tuple[Together | Loop, ...]) -> list[int]:
    return [n for s in stages if isinstance(s, Loop) for n in (s.length, *lengths(s.stages))]


def test_only_recurrence_has_no_chunks() -> None:
    graph = nldsl.load("std.hope:SelfModifyingTitans", dim=8, heads=2, chunk=4)
    assert lengths(planned(graph).stages) == [4, 1]
    assert lengths(planned(graph, "recurrence").stages) == [1]


def test_layers_that_feed_each_other_have_loops_of_their_own() -> None:
    graph = nldsl.load("std.titans:Titans", dim=8, heads=2, depth=3, chunk=4)
    assert lengths(planned(graph).stages) == [4, 1] * 3


def test_the_plan_says_why_not_faster() -> None:
    text = str(planned(nldsl.load("std.longhorn:Longhorn", dim=8)))
    assert "read.longhorn_rule.S: recurrence" in text
    assert "not closed form: a rate is a vector" in text


RULE = """
block B(d = 4) over q: [d], k: [d], v: [d], a: [d], b: [1] -> [d] {{
  memory M = matrix(d) from zeros
  {rule}
  return M(q)
}}
"""
CLASSES = {
    "M <- M + outer(k, v)": "w: a sum",
    "M <- b * M + outer(k, v)": "w: a decay: one number per tick",
    "M <- reshape(a, [d, 1]) * M + outer(k, v)": "w: a decay: a number per tick for every row",
    "M <- M + b * outer(k, v - M(k))": "w: the identity and rank one: one triangular system",
    "M <- b * M\n  learn M : k -> v minimizing l2 by gd(b) every token": "w: a number and rank one",
    "M <- reshape(a, [d, 1]) * M - outer(a, M(k)) + outer(k, v)": "w: a diagonal and rank one: one triangular system",
    "M <- M - outer(a, M(a))\n  M <- M + b * outer(k, v - M(k))": "w: the identity and rank two: one triangular system",
    "learn M : k -> v minimizing dot by gd(a) every token": "w: a sum",
    "learn M : k -> v minimizing l2 by gd(a) every token": "not closed form: a rate is a vector",
    "M <- a * M + outer(k, v)": "not closed form: a rate is a vector",
    "M <- M + outer(k, v - tanh(M(k)))": "not closed form: what it learns from depends on what it wrote a tick before",
}


@pytest.mark.parametrize(("rule", "said"), CLASSES.items())
def test_the_plan_says_what_kind_of_scan_a_rule_is(rule: str, said: str) -> None:
    assert said in str(planned(nldsl.load_text(RULE.format(rule=rule))))


def test_products_that_are_only_written_are_made_where_they_are_written() -> None:
    stages = planned(nldsl.load_text(RULE.format(rule="M <- 0.9 * M + b * outer(k, v)"))).stages
    apart = {r.op for s in stages if isinstance(s, Together) for r, _ in s.nodes if isinstance(r, Stream)}
    assert not apart & {"outer", "mul"}
