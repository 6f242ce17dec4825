"""The rules of deep memories, with their oracles."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .comparing import Named, Oracle, Row, gates, keys, vectors
from .oracles import atlas, lact, miras, nets, self_modifying, titans, tnt, ttt
from .oracles.nets import Net, Params

PLAIN = {"q": vectors, "k": keys, "v": vectors}
KEEP, RATE = gates(0, 1, exp(-20)), gates(0, 1, 2, exp(-20))
# Moneta's weights grow beyond all bounds where it forgets everything, and Memora's leave the numbers.
SLOWLY = gates(1, exp(-0.1))
CHUNK, WINDOW, SHARD, CHUNKS = 4, 3, 8, (2, 4)
OMEGA = {"n": 5, "chunk": CHUNK, "expand": 1, "window": WINDOW}


def of(name: str, w: Named) -> Params:
    """The weights of one memory, by their names in it."""
    return {leaf.removeprefix(f"{name}."): x for leaf, x in w.items() if leaf.startswith(f"{name}.")}


def named(memories: Mapping[str, Params]) -> Named:
    return {f"{name}.{leaf}": x for name, weights in memories.items() for leaf, x in weights.items()}


def renamed(names: Mapping[str, str], weights: Params) -> Params:
    return {names[leaf]: x for leaf, x in weights.items() if leaf in names}


# TTT

LINEAR = {"w": "w", "b": "b"}
TWO_LAYERS = {"w1": "up", "b1": "up_bias", "w2": "down", "b2": "down_bias"}


def ttt_of(net: Net, names: Mapping[str, str]) -> Oracle:
    """Biases are matrices of one row in the program, and vectors in the oracle."""

    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        learned = w["weight.share.learned"]
        share = (1 / torch.arange(1, len(learned) + 1, dtype=torch.float64) + learned).clamp(min=0)
        start = {names[leaf]: value[0] if leaf[0] == "b" else value for leaf, value in of("F", w).items()}
        norm = w["Norm.gain"], w["Norm.bias"]
        y, after = ttt.ttt(net, start, x["q"], x["k"], x["v"], x["rate"][:, 0], share, *norm, len(share))
        ends = {leaf: after["weights"][name] for leaf, name in names.items()}
        return y, named({"F": {leaf: x[None] if leaf[0] == "b" else x for leaf, x in ends.items()}})

    return oracle


# Titans, Atlas: gates in the order of the oracle's arguments


def titans_rule(x: Named, w: Named) -> tuple[Tensor, Named]:
    eta, theta, alpha = (x[name][:, 0] for name in ("eta", "theta", "alpha"))
    y, after = titans.titans(nets.mlp, of("M", w), *pairs(x), eta, theta, alpha, CHUNK)
    return y, named({"M": after["weights"]})


def dla(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = atlas.dla(nets.mlp, of("M", w), *pairs(x), x["alpha"][:, 0], x["eta"][:, 0], chunk=CHUNK)
    return y, named({"M": after["weights"]})


def omega(x: Named, w: Named) -> tuple[Tensor, Named]:
    gates = x["alpha"][:, 0], x["gamma"][:, 0]
    y, after = atlas.omega_net(nets.mlp, of("M", w), *pairs(x), *gates, WINDOW, CHUNK)
    return y, named({"M": after["weights"]})


def atlas_rule(x: Named, w: Named) -> tuple[Tensor, Named]:
    theta, alpha, eta, gamma = (x[name][:, 0] for name in ("theta", "alpha", "eta", "gamma"))
    y, after = atlas.atlas(nets.mlp, of("M", w), *pairs(x), theta, alpha, eta, gamma, WINDOW, 5, CHUNK)
    return y, named({"M": after["weights"]})


def dot(x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = atlas.dot_memory(nets.mlp, of("M", w), *pairs(x), x["gamma"][:, 0], WINDOW, CHUNK)
    return y, named({"M": after["weights"]})


def pairs(x: Named) -> tuple[Tensor, Tensor, Tensor]:
    return x["q"], x["k"], x["v"]


# MIRAS

DRAWN = {"w1": "up", "w2": "down"}


def moneta(x: Named, w: Named) -> tuple[Tensor, Named]:
    """The oracle starts from the sums; the program from their image W = A / ||A||^2, so A = W / ||W||^2."""
    first = renamed(DRAWN, of("F", w))
    sums = {name: value / (value**4).sum() ** 0.5 for name, value in first.items()}
    gates = x["alpha"][:, 0], x["eta"][:, 0]
    y, after = miras.moneta(normed(w), sums, *pairs(x), *gates, chunk=CHUNK)
    return y, named({"F": {leaf: after["weights"][name] for leaf, name in DRAWN.items()}})


def yaad(x: Named, w: Named) -> tuple[Tensor, Named]:
    gates = x["alpha"][:, 0], x["eta"][:, 0], x["delta"][:, 0]
    y, after = miras.yaad(normed(w), renamed(DRAWN, of("F", w)), *pairs(x), *gates, CHUNK)
    return y, named({"F": {leaf: after["weights"][name] for leaf, name in DRAWN.items()}})


def memora(x: Named, w: Named) -> tuple[Tensor, Named]:
    start = {name: value.softmax(0) for name, value in renamed(DRAWN, of("F", w)).items()}
    y, after = miras.memora(normed(w), start, *pairs(x), x["alpha"][:, 0], x["eta"][:, 0], CHUNK)
    return y, named({"F": {leaf: after["weights"][name] for leaf, name in DRAWN.items()}})


def normed(w: Named) -> Net:
    return nets.miras_mlp(w["Norm.gain"], w["Norm.bias"])


# LaCT, TNT

MATRICES = {"W0.w": "gate", "W1.w": "down", "W2.w": "up"}


def lact_of(muon: bool) -> Oracle:
    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        lr0, lr1, lr2, beta = (x[name][:, 0] for name in ("lr0", "lr1", "lr2", "beta"))
        y, after = lact.lact(renamed(MATRICES, w), *pairs(x), lr0, lr1, lr2, CHUNK, beta, muon)
        return y, {leaf: after["weights"][name] for leaf, name in MATRICES.items()}

    return oracle


def tnt_of(project: bool) -> Oracle:
    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        local = [of(f"L_{c}", w) for c in CHUNKS]
        rate, local_rates = x["global_eta"][:, 0], [x["local_eta"][:, 0]] * len(CHUNKS)
        sizes = 2 * CHUNK, CHUNKS, SHARD
        y, after = tnt.tnt(nets.mlp, of("G", w), local, *pairs(x), rate, local_rates, *sizes, project_queries=project)
        ends = named({"G": after["global"]} | {f"L_{c}": after[f"local{i}"] for i, c in enumerate(CHUNKS)})
        return y, ends | (spans(x["k"]) if project else {})

    return oracle


def spans(k: Tensor) -> Named:
    """What projects onto the keys of the chunk that the last token is in."""
    firsts = {c: (len(k) - 1) // c * c for c in CHUNKS}
    outers = {c: [torch.outer(row, row) / row.square().sum() for row in k[first:]] for c, first in firsts.items()}
    return {f"Seen_{c}.w": torch.stack(found).sum(0) for c, found in outers.items()}


# Self-modifying Titans

ADAPTIVE = {"Q": "q", "K": "k", "V": "v", "Eta": "eta", "Alpha": "alpha", "M": "M"}


def fixed(x: Named, w: Named) -> tuple[Tensor, Named]:
    """The oracle projects, so it is given all streams as one, and a projection that picks its own."""
    names = ("q", "k", "v", "eta", "alpha")
    widths = [x[name].shape[1] for name in names]
    picks = torch.split(torch.eye(sum(widths), dtype=torch.float64), widths, dim=1)
    whole = torch.cat([x[name] for name in names], dim=1)
    projections = dict(zip(names, picks, strict=True))
    y, after = self_modifying.fixed_projections(nets.residual_mlp, of("M", w), whole, projections, first, first)
    return y, named(after)


def first(x: Tensor) -> Tensor:
    return x[0]


def adaptive(x: Named, w: Named) -> tuple[Tensor, Named]:
    start = {name: of(memory, w) for memory, name in ADAPTIVE.items()}
    maps: dict[str, Net] = dict.fromkeys(start, nets.residual_mlp)
    y, after = self_modifying.adaptive_projections(maps, start, x["h"], slow_rate, long_keep)
    return y, named({memory: after[name] for memory, name in ADAPTIVE.items()})


def slow_rate(x: Tensor) -> Tensor:
    return softplus(x.mean() - 6)


def long_keep(x: Tensor) -> Tensor:
    return torch.sigmoid(x.mean() + 9)


GATED = PLAIN | {"alpha": KEEP, "eta": RATE}
LACT = PLAIN | {"lr0": RATE, "lr1": RATE, "lr2": RATE, "beta": KEEP}
TNT = PLAIN | {"global_eta": RATE, "local_eta": RATE}
SHORT = {"global_chunk": 2 * CHUNK, "chunks": list(CHUNKS), "shard": SHARD, "expand": 2}
SMALL = {"chunk": CHUNK, "expand": 2}

ROWS = {
    "TTTLinear": Row(
        "std.ttt:TTTLinearRule", ttt_of(nets.ttt_linear, LINEAR), PLAIN | {"rate": RATE}, {"chunk": CHUNK}
    ),
    "TTTMLP": Row("std.ttt:TTTMLPRule", ttt_of(nets.ttt_mlp, TWO_LAYERS), PLAIN | {"rate": RATE}, {"chunk": CHUNK}),
    "LMM": Row("std.titans:TitansRule", titans_rule, PLAIN | {"eta": KEEP, "theta": RATE, "alpha": KEEP}, SMALL),
    "Moneta": Row("std.miras:MonetaRule", moneta, PLAIN | {"alpha": SLOWLY, "eta": RATE}, SMALL),
    "Yaad": Row("std.miras:YaadRule", yaad, GATED | {"delta": RATE}, SMALL),
    "Memora": Row("std.miras:MemoraRule", memora, PLAIN | {"alpha": SLOWLY, "eta": RATE}, SMALL),
    "DLA": Row("std.atlas:DLARule", dla, GATED, {"n": 5, "chunk": CHUNK, "expand": 1}),
    "OmegaNet": Row("std.atlas:OmegaRule", omega, PLAIN | {"alpha": KEEP, "gamma": RATE}, OMEGA),
    "Atlas": Row("std.atlas:AtlasRule", atlas_rule, GATED | {"theta": KEEP, "gamma": RATE}, OMEGA),
    "Dot": Row("std.atlas:DotRule", dot, PLAIN | {"gamma": RATE}, OMEGA),
    "LaCT": Row("std.lact:LaCTRule", lact_of(muon=False), LACT, {"chunk": CHUNK}),
    "LaCTMuon": Row("std.lact:LaCTRule", lact_of(muon=True), LACT, {"chunk": CHUNK, "muon": True}),
    "TNT": Row("std.tnt:TNTRule", tnt_of(project=True), TNT, SHORT, learned=False),
    "TNTUnprojected": Row("std.tnt:TNTRule", tnt_of(project=False), TNT, SHORT | {"project": False}),
    "FixedProjections": Row("std.self_modifying:FixedProjectionsRule", fixed, GATED),
    "AdaptiveProjections": Row("std.self_modifying:AdaptiveProjectionsRule", adaptive, {"h": keys}),
}
