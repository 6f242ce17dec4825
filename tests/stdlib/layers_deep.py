"""Layers of deep memories by hand: their projections, norms and gates in plain PyTorch around the oracles of their
rules. Each takes x [T, dim] and the layer's parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import expm1, log

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from .comparing import Named, by_head, convolved, rmsnorm, unit
from .oracles import attention, nets, titans
from .oracles.self_modifying import self_modifying_titans
from .rows_deep import CHUNK, ROWS, of

HEADS = 2
SEGMENT = 4
Layer = Callable[[Tensor, Named], Tensor]
Gate = Callable[[Tensor], Tensor]


def sigmoid_from(shift: float) -> Gate:
    return lambda x: torch.sigmoid(x + shift)


def softplus_from(shift: float) -> Gate:
    return lambda x: softplus(x + shift)


def bounded_from(most: float, shift: float) -> Gate:
    return lambda x: most * torch.sigmoid(x + shift)


# Rules, head by head


def ruled(row: str, at: str, p: Named, streams: Mapping[str, Tensor]) -> Tensor:
    """The oracle of a row for each head, with the weights under the name `at`; streams and answer [T, HEADS * n]."""
    weights = {name.removeprefix(f"{at}."): w for name, w in p.items() if name.startswith(f"{at}.")}
    answers = []
    for head in range(HEADS):
        own = {name: w if name.startswith("weight.") else w[head] for name, w in weights.items()}
        answers.append(ROWS[row].oracle({n: x.chunk(HEADS, dim=-1)[head] for n, x in streams.items()}, own)[0])
    return torch.cat(answers, dim=-1)


def projected(x: Tensor, p: Named, name: str) -> Tensor:
    return x @ p[f"{name}.linear.w"]


def mixed(x: Tensor, p: Named, name: str) -> Tensor:
    return silu(convolved(projected(x, p, name), p[f"{name}.conv.kernel"]))


def units(x: Tensor) -> Tensor:
    return by_head(unit, HEADS, x)


# Titans' layer around any rule


def layer_of(row: str, rule: str, gates: Mapping[str, Gate], features: Callable[..., Tensor] | None = None) -> Layer:
    """Convolution, silu and unit length, then the rule, a norm and a gate."""

    def layer(x: Tensor, p: Named) -> Tensor:
        streams = {"q": units(mixed(x, p, "q")), "k": units(mixed(x, p, "k")), "v": mixed(x, p, "v")}
        if features is not None:
            streams |= {name: features(streams[name], p, name) for name in "qk"}
        streams |= {name: gate(projected(x, p, name)) for name, gate in gates.items()}
        y = by_head(lambda share: rmsnorm(share, p["y.rmsnorm.gain"]), HEADS, ruled(row, f"y.{rule}", p, streams))
        return (silu(projected(x, p, "gate")) * y) @ p["linear.w"]

    return layer


def taylor(x: Tensor, p: Named, name: str) -> Tensor:
    """The monomials of each head's share up to degree 2, times one number per degree."""
    constant, linear, quadratic = (p[f"{name}.taylor.{degree}"] for degree in ("constant", "linear", "quadratic"))

    def features(share: Tensor) -> Tensor:
        squares = (share[:, :, None] * share[:, None, :]).flatten(1)
        return torch.cat([constant.expand(len(share), 1), linear * share, quadratic * squares], dim=1)

    return by_head(features, HEADS, x)


LMM = {"eta": sigmoid_from(2), "theta": softplus_from(-8), "alpha": sigmoid_from(-9)}
lmm = layer_of("LMM", "titans_rule", LMM)
moneta = layer_of("Moneta", "moneta_rule", {"alpha": sigmoid_from(9), "eta": softplus_from(-8)})
yaad = layer_of("Yaad", "yaad_rule", {"alpha": sigmoid_from(9), "eta": softplus_from(-6), "delta": softplus_from(1)})
memora = layer_of("Memora", "memora_rule", {"alpha": sigmoid_from(9), "eta": softplus_from(-6)})
dla = layer_of("DLA", "dla_rule", {"alpha": sigmoid_from(8), "eta": softplus_from(-8)})
omega = layer_of("OmegaNet", "omega_rule", {"alpha": sigmoid_from(9), "gamma": softplus_from(-6)}, taylor)
atlas = layer_of(
    "Atlas",
    "atlas_rule",
    {"theta": sigmoid_from(2), "alpha": sigmoid_from(9), "eta": softplus_from(-8), "gamma": sigmoid_from(2)},
    taylor,
)
dot = layer_of("Dot", "dot_rule", {"gamma": softplus_from(-6)}, taylor)
tnt = layer_of("TNT", "tnt_rule", {"global_eta": softplus_from(-8), "local_eta": softplus_from(-5)})


# Titans with attention


def attended(x: Tensor, p: Named, at: str, window: int) -> Tensor:
    """`PersistentAttention`, its parameters under the name `at`."""
    q, k, v = (projected(x, p, f"{at}.{name}").chunk(HEADS, dim=-1) for name in "qkv")
    pairs = p[f"{at}.A.keys"], p[f"{at}.A.values"]
    heads = zip(q, k, v, *pairs, strict=True)
    y = [attention.attention_with_persistent(*head, window)[0] for head in heads]
    return torch.cat(y, dim=-1) @ p[f"{at}.linear.w"]


def mag(x: Tensor, p: Named) -> Tensor:
    y = rmsnorm(attended(x, p, "y.persistent_attention", 3), p["y.rmsnorm.gain"])
    return torch.sigmoid(rmsnorm(lmm(x, of("m.lmm", p)), p["m.rmsnorm.gain"])) * y


def mal(x: Tensor, p: Named) -> Tensor:
    y = rmsnorm(lmm(x, of("y.lmm", p)), p["y.rmsnorm.gain"])
    return attended(y, p, "persistent_attention", 3)


def mac(x: Tensor, p: Named) -> Tensor:
    """One head, as the oracle has. It projects its persistent tokens, where the program has keys and values: so here
    vectors have a channel more for each of them, which nothing but the attention's projections looks at."""
    extra, width = p["A.keys"].shape[1], x.shape[1]

    def wider(columns: Tensor) -> Tensor:
        return torch.cat([columns, columns.new_zeros(len(columns), extra)], dim=1)

    def taller(weight: Tensor, rows: Tensor | None = None) -> Tensor:
        return torch.cat([weight, weight.new_zeros(extra, width) if rows is None else rows])

    def net(weights: Named, key: Tensor) -> Tensor:
        answer = nets.mlp(weights, unit(key))
        return torch.cat([answer, answer.new_zeros(*answer.shape[:-1], extra)], dim=-1)

    def gates(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eta, theta, alpha = (projected(y, p, name)[:, 0] for name in ("eta", "theta", "alpha"))
        return torch.sigmoid(eta + 2), softplus(theta - 8), torch.sigmoid(alpha - 9)

    def combine(y: Tensor, answer: Tensor) -> Tensor:
        answer = rmsnorm(answer[:, :width], p["gate.rmsnorm.gain"])
        return torch.sigmoid(answer) * rmsnorm(y, p["rmsnorm.gain"])

    tokens = torch.eye(width + extra, dtype=x.dtype)[width:]
    looks = {
        "q": taller(p["y.linear.w"]),
        "k": taller(p["K.w"], p["A.keys"][0]),
        "v": taller(p["V.w"], p["A.values"][0]),
    }
    memory = {"q": taller(p["h.linear.w"]), "k": p["k.linear.w"], "v": wider(p["v.linear.w"])}
    start = {name: w[0] for name, w in of("M", p).items()}
    sizes = SEGMENT, SEGMENT
    y, _ = titans.mac(
        net, start, wider(x), tokens, looks, memory, gates, *sizes, context="causal", gate="earlier", combine=combine
    )
    return y @ p["linear.w"]


# TTT, LaCT, self-modifying Titans


def ttt_of(row: str, rule: str, base: float) -> Layer:
    def layer(x: Tensor, p: Named) -> Tensor:
        places = torch.arange(len(x), dtype=x.dtype) % CHUNK
        q, k = (by_head(lambda h: attention.rope(h, places), HEADS, projected(x, p, name)) for name in "qk")
        rate = torch.sigmoid(x @ p["rate.linear_bias.w"] + p["rate.linear_bias.b"]) * base * HEADS / x.shape[1]
        y = ruled(row, f"y.{rule}", p, {"q": q, "k": k, "v": projected(x, p, "v"), "rate": rate})
        return nets.layer_norm(y, p["y.layernorm.gain"], p["y.layernorm.bias"]) @ p["linear.w"]

    return layer


ttt_linear, ttt_mlp = ttt_of("TTTLinear", "ttt_linear_rule", 1), ttt_of("TTTMLP", "tttmlp_rule", 0.1)


def lact(x: Tensor, p: Named) -> Tensor:
    q, k, v = (projected(x, p, name) for name in "qkv")
    places = torch.arange(len(x), dtype=x.dtype)

    def sliding(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention.softmax_attention(attention.rope(q, places), attention.rope(k, places), v, CHUNK)[0]

    def scaled(share: Tensor, scale: Tensor) -> Tensor:
        return scale * rmsnorm(share, p["rmsnorm.gain"])

    streams = {"q": units(silu(q)), "k": units(silu(k)), "v": silu(v), "beta": torch.sigmoid(projected(x, p, "beta"))}
    streams |= {name: softplus(projected(x, p, name) + log(expm1(0.01))) for name in ("lr0", "lr1", "lr2")}
    fast = by_head(scaled, HEADS, ruled("LaCT", "fast.la_ct_rule", p, streams), silu(projected(x, p, "scale")))
    return (by_head(sliding, HEADS, q, k, v) + fast) @ p["linear.w"]


def convolved_units(x: Tensor, p: Named, name: str) -> Tensor:
    return units(convolved(projected(x, p, name), p[f"{name}.conv.kernel"]))


def fixed_projections(x: Tensor, p: Named) -> Tensor:
    streams = {name: convolved_units(x, p, name) for name in "qkv"}
    streams |= {"eta": softplus(projected(x, p, "eta") - 6), "alpha": torch.sigmoid(projected(x, p, "alpha") + 9)}
    return ruled("FixedProjections", "y.fixed_projections_rule", p, streams) @ p["linear.w"]


def adaptive_projections(x: Tensor, p: Named) -> Tensor:
    h = units(convolved(x, p["h.conv.kernel"]))
    return ruled("AdaptiveProjections", "adaptive_projections_rule", p, {"h": h}) @ p["linear.w"]


def self_modifying(x: Tensor, p: Named) -> Tensor:
    q = convolved_units(x, p, "q").chunk(HEADS, dim=-1)
    h, z = (convolved(x, p[f"{name}.conv.kernel"]).chunk(HEADS, dim=-1) for name in "hz")
    answers = []
    for head in range(HEADS):
        start = {name: {leaf: w[head] for leaf, w in of(name, p).items()} for name in ("K", "V", "M")}
        for name in ("Eta", "Alpha"):
            body = {leaf: w[head] for leaf, w in of(f"{name}.residual_mlp", p).items()}
            start[name] = body | {"head": p[f"{name}.linear.w"][head]}
        rate, keep = bounded_from(0.1, -4), sigmoid_from(9)
        answers.append(self_modifying_titans(start, q[head], h[head], z[head], rate, keep, CHUNK)[0])
    return torch.cat(answers, dim=-1) @ p["linear.w"]
