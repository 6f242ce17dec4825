"""Linear memories and attention: every rule is its oracle, and every block its rule and what is around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

import nldsl

from .comparing import Named, agree, attended, by_head, carried, convolved, differences, rmsnorm, unit, wiring
from .oracles import delta, linear, longhorn, mesa, srwm
from .oracles.common import Result
from .rows_linear import ROWS

HEADS = 2

SIZES = [(1, 1), (3, 9), (4, 17)]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("d", "ticks"), SIZES)
def test_a_rule_is_its_oracle(name: str, d: int, ticks: int) -> None:
    agree(differences(ROWS[name], ticks, seed=d, d=d))


@pytest.mark.parametrize("name", ROWS)
def test_also_token_by_token(name: str) -> None:
    agree(differences(ROWS[name], 7, seed=7, d=3, only="recurrence"))


@pytest.mark.parametrize("name", ROWS)
def test_also_as_traced_at_once(name: str) -> None:
    agree(differences(ROWS[name], 7, seed=8, d=4, patience=0))


@pytest.mark.parametrize("name", ROWS)
def test_also_in_two_calls(name: str) -> None:
    agree(carried(ROWS[name], 9, 4, d=3))


# Wiring: dim = 8, two heads of 4


def mixed(x: Tensor, p: Named, name: str) -> Tensor:
    """linear, convolution of 4, silu."""
    return silu(convolved(x @ p[f"{name}.linear.w"], p[f"{name}.conv.kernel"]))


def normed_keys(x: Tensor, p: Named, name: str) -> Tensor:
    """The same, each head's share of length 1."""
    return by_head(unit, HEADS, mixed(x, p, name))


def normed(y: Tensor, p: Named) -> Tensor:
    return by_head(lambda share: rmsnorm(share, p["y.rmsnorm.gain"]), HEADS, y)


def mamba_gate(x: Tensor, p: Named) -> Tensor:
    rate = softplus(x @ p["alpha.retain.w"] + p["alpha.retain.dt"])
    return torch.exp(-torch.exp(p["alpha.retain.a"]) * rate)


def biased(x: Tensor, p: Named, name: str) -> Tensor:
    return x @ p[f"{name}.linear_bias.w"] + p[f"{name}.linear_bias.b"]


def linear_attention(x: Tensor, p: Named) -> Tensor:
    q, k, v = (x @ p[f"{name}.linear.w"] for name in "qkv")
    return normed(by_head(lambda *of: linear.linear_attention(*of)[0], HEADS, q, k, v), p) @ p["linear.w"]


def normalised_linear_attention(x: Tensor, p: Named) -> Tensor:
    q, k, v = (x @ p[f"{name}.linear.w"] for name in "qkv")
    return by_head(lambda *of: linear.normalised_linear_attention(*of)[0], HEADS, q, k, v) @ p["linear.w"]


def delta_net(x: Tensor, p: Named) -> Tensor:
    q, k, v = normed_keys(x, p, "q"), normed_keys(x, p, "k"), mixed(x, p, "v")
    beta = 2 * torch.sigmoid(x @ p["beta.linear.w"])
    y = by_head(lambda q, k, v, b: delta.delta_net(q, k, v, b[:, 0])[0], HEADS, q, k, v, beta)
    return normed(y, p) @ p["linear.w"]


def gated_delta_net(x: Tensor, p: Named) -> Tensor:
    q, k, v = normed_keys(x, p, "q"), normed_keys(x, p, "k"), mixed(x, p, "v")
    gates = mamba_gate(x, p), torch.sigmoid(x @ p["beta.linear.w"])
    y = by_head(lambda q, k, v, a, b: delta.gated_delta_net(q, k, v, a[:, 0], b[:, 0])[0], HEADS, q, k, v, *gates)
    return silu(x @ p["gate.linear.w"]) * normed(y, p) @ p["linear.w"]


def comba(x: Tensor, p: Named) -> Tensor:
    q, k, v = normed_keys(x, p, "q"), normed_keys(x, p, "k"), mixed(x, p, "v")
    gates = mamba_gate(x, p), torch.sigmoid(x @ p["beta.linear.w"])
    numbers = torch.sigmoid(p["b.numbers.w"] + 1)[None], (p["c.numbers.w"] + 0.02)[None]
    y = by_head(
        lambda q, k, v, alpha, beta, b, c: delta.comba(q, k, v, alpha[:, 0], beta[:, 0], b[0], c[0])[0],
        HEADS, q, k, v, *gates, *numbers,
    )  # fmt: skip
    return torch.sigmoid(x @ p["gate.linear.w"]) * normed(y, p) @ p["linear.w"]


def longhorn_layer(x: Tensor, p: Named, rule: Callable[..., Result] = longhorn.longhorn) -> Tensor:
    u = mixed(x, p, "u")
    beta = torch.sigmoid(biased(u @ p["beta.linear.w"], p, "beta") - 4)
    y, _ = rule(u @ p["q.linear.w"], u @ p["k.linear.w"], u, beta)
    return silu(x @ p["gate.linear.w"]) * (y + p["gain.w"] * u) @ p["linear.w"]


def mesa_net(x: Tensor, p: Named) -> Tensor:
    q, k, v = normed_keys(x, p, "q"), normed_keys(x, p, "k"), x @ p["v.linear.w"]
    gates = torch.sigmoid(biased(x, p, "g") + 4), torch.sigmoid(biased(x, p, "beta"))
    lam = (0.25 + softplus(p["lam.numbers.w"] + math.log(math.exp(0.75) - 1)))[None]
    y = by_head(
        lambda q, k, v, g, beta, lam: mesa.mesa_net_cg(q, k, v, g[:, 0], beta[:, 0], lam[0], 3)[0],
        HEADS, q, k, v, *gates, lam,
    )  # fmt: skip
    return normed(y, p) @ p["linear.w"]


def self_referential(x: Tensor, p: Named) -> Tensor:
    heads = zip(x.chunk(HEADS, dim=-1), *(p[f"srwm_rule.{part}.w"] for part in "YQKB"), strict=True)
    y = torch.cat([srwm.srwm(torch.softmax(share, -1), *parts)[0] for share, *parts in heads], dim=-1)
    return y @ p["linear.w"]


def windowed(x: Tensor, p: Named) -> Tensor:
    return attended(x, p, "", 3)


def transformer_plus_plus(x: Tensor, p: Named) -> Tensor:
    x = x + attended(rmsnorm(x, p["rmsnorm.gain"]), p, "attention.", 3)
    gate, up, down = (p[f"gated_feed_forward.swiglu.{name}"] for name in ("gate", "up", "down"))
    h = rmsnorm(x, p["gated_feed_forward.rmsnorm.gain"])
    return x + (silu(h @ gate) * (h @ up)) @ down


BLOCKS: dict[str, tuple[Callable[[Tensor, Named], Tensor], dict[str, Any]]] = {
    "std.linear_attention:LinearAttention": (linear_attention, {"heads": HEADS}),
    "std.linear_attention:NormalisedLinearAttention": (normalised_linear_attention, {"heads": HEADS}),
    "std.delta:DeltaNet": (delta_net, {"heads": HEADS, "beta_max": 2}),
    "std.delta:GatedDeltaNet": (gated_delta_net, {"heads": HEADS}),
    "std.delta:Comba": (comba, {"heads": HEADS, "correction": 0.02}),
    "std.longhorn:Longhorn": (longhorn_layer, {"keys": 3}),
    "std.mesa:MesaNet": (mesa_net, {"heads": HEADS, "rounds": 3}),
    "std.srwm:SRWM": (self_referential, {"heads": HEADS, "soft": True}),
    "std.transformer:Attention": (windowed, {"heads": HEADS, "window": 3}),
    "std.transformer:TransformerPlusPlus": (transformer_plus_plus, {"heads": HEADS, "window": 3}),
}


@pytest.mark.parametrize("program", BLOCKS)
def test_a_block_is_its_rule_and_what_is_around_it(program: str) -> None:
    by_hand, hyper = BLOCKS[program]
    agree(wiring(program, by_hand, dim=8, **hyper))


def test_longhorn_with_the_diagonal_alone() -> None:
    by_hand = partial(longhorn_layer, rule=longhorn.longhorn_diagonal)
    agree(wiring("std.longhorn:Longhorn", by_hand, dim=8, keys=3, diagonal=True))


# Initial values


@pytest.mark.parametrize("program", BLOCKS)
def test_a_block_trains(program: str) -> None:
    """A few steps on one text, which it learns: the loss falls."""
    module = nldsl.compile(program, as_model=True, dim=8, vocab=11, **BLOCKS[program][1])
    optimizers = module.optimizers()
    ids = torch.randint(11, (2, 12), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses.append(float(module.backward(ids)[0]))
        for optimizer in optimizers:
            optimizer.step()
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
