"""The rules of linear memories and of attention, with their oracles."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from .comparing import Named, Oracle, Row, gates, keys, vectors
from .oracles import attention, delta, linear, longhorn, mesa, srwm

PLAIN = {"q": vectors, "k": keys, "v": vectors}
KEEP, RATE, SHARE = gates(0, 1, exp(-20)), gates(0, 1, 2, exp(-20)), gates(0, 1)


def linear_attention(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = linear.linear_attention(x["q"], x["k"], x["v"], w["M.w"])
    return y, {"M.w": after["S"]}


def normalised(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = linear.normalised_linear_attention(x["q"], x["k"], x["v"])
    return y, {"M.w": after["S"], "Z.w": after["z"][:, None]}


def delta_rule(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = delta.delta_net(x["q"], x["k"], x["v"], x["beta"][:, 0], w["M.w"])
    return y, {"M.w": after["S"]}


def gated_delta_rule(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = delta.gated_delta_net(x["q"], x["k"], x["v"], x["alpha"][:, 0], x["beta"][:, 0], w["M.w"])
    return y, {"M.w": after["S"]}


def comba(x: Named, w: Named) -> tuple[Tensor, Named]:
    """Token by token, since the oracle takes b and c as numbers that stay."""
    memory, answers = w["M.w"], []
    for t in range(len(x["q"])):
        q, k, v = (x[name][t : t + 1] for name in ("q", "k", "v"))
        alpha, beta, b, c = (x[name][t] for name in ("alpha", "beta", "b", "c"))
        y, after = delta.comba(q, k, v, alpha, beta, b, c, memory)
        memory = after["S"]
        answers.append(y)
    return torch.cat(answers), {"M.w": memory}


def comba_undecayed(x: Named, w: Named) -> tuple[Tensor, Named]:
    """alpha M b k is S b k with S = alpha M, if b is b / alpha there; the query is to be corrected as before."""
    return comba(x | {"b": x["b"] / x["alpha"], "c": x["c"] * x["alpha"]}, w)


def longhorn_exactly(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = longhorn.longhorn(x["q"], x["k"], x["x"], x["beta"], w["S.w"])
    return y, {"S.w": after["S"]}


def longhorn_diagonal(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = longhorn.longhorn_diagonal(x["q"], x["k"], x["x"], x["beta"], w["S.w"])
    return y, {"S.w": after["S"]}


def mesa_of(rounds: int) -> Oracle:
    """By conjugate gradients, or exactly for 0 rounds. Token by token, since the oracle's ridge stays."""

    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        state: Named = {}
        answers = []
        for t in range(len(x["q"])):
            q, k, v = (x[name][t : t + 1] for name in ("q", "k", "v"))
            g, beta, lam, starts = x["g"][t], x["beta"][t], x["lam"][t], (state.get("G"), state.get("H"))
            if rounds:
                y, state = mesa.mesa_net_cg(q, k, v, g, beta, lam, rounds, *starts)
            else:
                y, state = mesa.mesa_net(q, k, v, g, beta, lam, *starts)
            answers.append(y)
        return torch.cat(answers), {"G.w": state["G"], "H.w": state["H"]}

    return oracle


def ridge(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return 0.25 + gates(0, 5)(random, shape)


def self_referential(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = srwm.srwm(x["x"], w["Y.w"], w["Q.w"], w["K.w"], w["B.w"])
    return y, {f"{part[-1].upper()}.w": value for part, value in after.items()}


def attention_of(window: int) -> Oracle:
    """The pairs that are kept are no weights: they show in the answers alone."""

    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        return attention.softmax_attention(x["q"], x["k"], x["v"], window)[0], {}

    return oracle


GATED = PLAIN | {"alpha": KEEP, "beta": RATE}
PER_CHANNEL = {"q": vectors, "k": vectors, "x": vectors, "beta": gates(0, 1, 2, exp(-20), 1000)}
RIDGE = PLAIN | {"g": KEEP, "beta": RATE, "lam": ridge}

ROWS = {
    "LinearAttention": Row("std.linear_attention:LinearAttentionRule", linear_attention, PLAIN),
    # A start of any sign would let the normaliser pass 0.
    "NormalisedLinearAttention": Row(
        "std.linear_attention:NormalisedLinearAttentionRule", normalised, PLAIN, learned=False
    ),
    "DeltaNet": Row("std.delta:DeltaRule", delta_rule, PLAIN | {"beta": RATE}),
    "GatedDeltaNet": Row("std.delta:GatedDeltaRule", gated_delta_rule, GATED),
    "Comba": Row("std.delta:CombaRule", comba, GATED | {"b": SHARE, "c": vectors}),
    "CombaUndecayed": Row(
        "std.delta:CombaRule",
        comba_undecayed,
        GATED | {"alpha": gates(1, 0.5), "b": SHARE, "c": vectors},
        {"undecayed": True},
    ),
    "Longhorn": Row("std.longhorn:LonghornRule", longhorn_exactly, PER_CHANNEL, {"out": 5}),
    "LonghornDiagonal": Row("std.longhorn:LonghornRule", longhorn_diagonal, PER_CHANNEL, {"out": 2, "diagonal": True}),
    # H has to be what a sum of k k^T can be, which a start at random is not.
    "MesaNet": Row("std.mesa:MesaRule", mesa_of(2), RIDGE, {"rounds": 2}, learned=False),
    "MesaNetExact": Row("std.mesa:MesaRule", mesa_of(0), RIDGE, {"rounds": 6}, learned=False),
    "SRWM": Row("std.srwm:SRWMRule", self_referential, {"x": vectors}),
    "Attention": Row("std.transformer:AttentionRule", attention_of(0), PLAIN),
    "SlidingWindowAttention": Row("std.transformer:AttentionRule", attention_of(3), PLAIN, {"window": 3}),
}
