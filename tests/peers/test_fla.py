"""Rules of the library beside the plain PyTorch references of flash-linear-attention (`fla/ops/*/naive.py`).

Compared are the answers, the memory after the last token, and the gradients of both by every stream and every start, on
keys that lean to one direction. The reference of Titans is left out: its step is not the gradient through its norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from stdlib.comparing import Draw, Named, Row, differences, gates, keys, vectors
from torch import Tensor
from torch.nn.functional import elu

from nldsl.modules import library

from .loading import peer

# The references compute in float32, whatever they are given, and the library here in float64: what differs is float32's
# rounding, whose unit is 1.2e-7. A rate or a gate that is off by a thousandth shows at 1e-3.
TOLERANCE = 1e-5

Reference = Callable[[ModuleType, Named, Named], tuple[Tensor, Named]]


@dataclass(frozen=True)
class Peer:
    """module: `fla.ops.<module>.naive`. reference: from it, the streams [1, T, 1, n] and the starts [1, 1, ...] to the
    answers and the memories after the last token, with axes for one sequence and one head. text: the library's, where
    the reference is of a variant."""

    module: str
    program: str
    reference: Reference
    streams: dict[str, Draw]
    hyper: dict[str, Any] = field(default_factory=dict)
    learned: bool = True
    text: str = ""
    ticks: tuple[int, ...] = (1, 14)


def row(given: Peer) -> Row:
    naive = peer("fla-core", f"fla.ops.{given.module}.naive")

    def oracle(x: Named, w: Named) -> tuple[Tensor, Named]:
        streams = {name: value[None, :, None].float() for name, value in x.items()}
        starts = {name: value[None, None].float() for name, value in w.items()}
        y, after = given.reference(naive, streams, starts)
        return y[0, :, 0].double(), {name: value[0, 0].double() for name, value in after.items()}

    return Row(given.program, oracle, given.streams, given.hyper, given.learned, given.text)


# The references. Most scale q by d^-0.5 unless told not to.


def linear_attention(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = naive.naive_recurrent_linear_attn(x["q"], x["k"], x["v"], 1.0, w["M.w"], output_final_state=True)
    return y, {"M.w": after}


def normalised(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """Its feature map is the caller's."""
    q, k = elu(x["q"]) + 1, elu(x["k"]) + 1
    y, (total, norm) = naive.naive_recurrent_linear_attn(q, k, x["v"], 1.0, output_final_state=True, normalize=True)
    return y, {"M.w": total, "Z.w": norm[:, 0, :, :, None]}


def delta(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """Heads come first, and the scale of q cannot be changed."""
    q, k, v, beta = (x[name].transpose(1, 2) for name in ("q", "k", "v", "beta"))
    y, after = naive.delta_rule_recurrence(q * q.shape[-1] ** 0.5, k, v, beta, w["M.w"])
    return y.transpose(1, 2), {"M.w": after}


def gated(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = naive.naive_recurrent_gated_delta_rule(**gated_streams(x), **goes_on(w))
    return y, {"M.w": after}


def gated_by_chunks(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    y, after = naive.naive_chunk_gated_delta_rule(**gated_streams(x), **goes_on(w), chunk_size=4)
    return y, {"M.w": after}


def comba(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """What is fed back, and the corrected query, are the caller's."""
    p = x["b"] * x["k"]
    corrected = x | {"q": x["q"] - x["c"] * p}
    y, after = naive.naive_recurrent_comba(**gated_streams(corrected), p=p, **goes_on(w))
    return y, {"M.w": after}


def comba_by_chunks(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """This form takes the error on the memory before its decay, unlike the other."""
    p = x["b"] * x["k"]
    corrected = x | {"q": x["q"] - x["c"] * p}
    y, after = naive.naive_chunk_comba(**gated_streams(corrected), p=p, **goes_on(w), chunk_size=4)
    return y, {"M.w": after}


def gated_streams(x: Named) -> Named:
    return {"q": x["q"], "k": x["k"], "v": x["v"], "beta": x["beta"][..., 0], **logarithms(x, g="alpha")}


def goes_on(w: Named) -> dict[str, Any]:
    return {"scale": 1.0, "initial_state": w["M.w"], "output_final_state": True}


def mesa(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """The exact solution, token by token, since its ridge is the same for all tokens of a call."""
    g, beta = logarithms(x, g="g")["g"], x["beta"][..., 0]
    answers, G, H = [], None, None
    for t in range(g.shape[1]):
        now = slice(t, t + 1)
        streams = (x["q"][:, now], x["k"][:, now], x["v"][:, now], g[:, now], x["lam"][0, t], beta[:, now])
        y, H, G = naive.naive_mesa_net_exact(*streams, H, G)
        answers.append(y)
    assert G is not None and H is not None
    return torch.cat(answers, dim=1), {"G.w": G, "H.w": H}


def momentum_delta(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """M keeps 1 - alpha of itself and takes the whole of the momentum, in which theta is."""
    kept = {"alpha": 1 - x["alpha"], "mu": x["eta"]}
    y, after = naive.recurrent_momentum_delta_rule_ref(
        *(x["q"], x["k"], x["v"]),
        **logarithms(kept, log_alpha="alpha", log_mu="mu"),
        p=x["k"],
        beta=torch.ones_like(x["theta"][..., 0]),
        eta=x["theta"][..., 0],
        scale=1.0,
        initial_S=w["M.w"],
        output_final_state=True,
    )
    return y, {"M.w": after[0]}


def ttt(naive: ModuleType, x: Named, w: Named) -> tuple[Tensor, Named]:
    """It has one number per token, the share that the token gives to the gradients of its mini-batch so far. It
    multiplies q in place."""
    learned = w["weight.share.learned"][0, 0]
    share = (1 / torch.arange(1, len(learned) + 1) + learned).clamp(min=0)
    ticks = x["q"].shape[1]
    eta = share.repeat(ticks)[None, :ticks, None, None]
    given = (x["q"].clone(), x["k"], x["v"], w["Norm.gain"][0], w["Norm.bias"][0], eta, 1.0, 1e-6, len(share))
    y, weight, bias = naive.chunk_ttt_linear_ref(*given, w["F.w"], w["F.b"], output_final_state=True)
    return y, {"F.w": weight, "F.b": bias}


def logarithms(x: Named, **names: str) -> Named:
    """Gates as fla has them: logarithms, without the last axis."""
    return {theirs: x[ours][..., 0].log() for theirs, ours in names.items()}


# Variants of the library's rules


def variant(module: str, changes: dict[str, str]) -> str:
    text: str = (library() / f"{module}.nl").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


LINEAR_TITANS = variant("titans", {"mlp(d, expand)": "matrix(d)"})

# fla's TTT has no rate, and adds F(q) to the norm, where the authors add q.
FLA_TTT = variant(
    "ttt",
    {
        "v: [d], rate: [1] -> [d]": "v: [d] -> [d]",
        "by minibatch_gd(rate, ": "by minibatch_gd(1, ",
        "return q + Norm(F(q))": "return F(q) + Norm(F(q))",
    },
)


# Streams


def keep(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """In (0.05, 1): the logarithm of a smaller gate leaves its gradient too few digits in float32."""
    return torch.exp(-3 * torch.rand(shape, generator=random, dtype=torch.float64))


def ridge(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return 0.25 + gates(0, 5)(random, shape)


PLAIN: dict[str, Draw] = {"q": vectors, "k": keys, "v": vectors}
RATE = gates(0, 1, 2)
GATED = PLAIN | {"alpha": keep, "beta": RATE}
CONTROLLED = GATED | {"b": gates(0, 1), "c": vectors}
RIDGE = PLAIN | {"g": keep, "beta": RATE, "lam": ridge}

PEERS = {
    "linear attention": Peer("linear_attn", "std.linear_attention:LinearAttentionRule", linear_attention, PLAIN),
    "normalised linear attention": Peer(
        "linear_attn",
        "std.linear_attention:NormalisedLinearAttentionRule",
        normalised,
        PLAIN,
        {"eps": 1e-10},
        learned=False,
    ),
    "delta": Peer("delta_rule", "std.delta:DeltaRule", delta, PLAIN | {"beta": RATE}),
    "gated delta": Peer("gated_delta_rule", "std.delta:GatedDeltaRule", gated, GATED),
    "gated delta, chunks": Peer("gated_delta_rule", "std.delta:GatedDeltaRule", gated_by_chunks, GATED),
    "Comba": Peer("comba", "std.delta:CombaRule", comba, CONTROLLED),
    "Comba, chunks": Peer("comba", "std.delta:CombaRule", comba_by_chunks, CONTROLLED, {"undecayed": True}),
    "Mesa": Peer("mesa_net", "std.mesa:MesaRule", mesa, RIDGE, {"rounds": 6}, learned=False),
    "momentum delta": Peer(
        "momentum_delta_rule",
        "std.titans:TitansRule",
        momentum_delta,
        PLAIN | {"eta": keep, "theta": RATE, "alpha": gates(0, 0.5)},
        {"chunk": 1},
        text=LINEAR_TITANS,
    ),
    # Its bias is right only after whole mini-batches.
    "TTT": Peer("ttt", "std.ttt:TTTLinearRule", ttt, PLAIN, {"chunk": 4}, text=FLA_TTT, ticks=(4, 12)),
}


@pytest.mark.parametrize(("name", "ticks"), [(name, ticks) for name, given in PEERS.items() for ticks in given.ticks])
def test_a_rule_is_the_reference(name: str, ticks: int) -> None:
    apart = differences(row(PEERS[name]), ticks, d=4)
    assert max(apart.values()) <= TOLERANCE, {part: gap for part, gap in apart.items() if gap > TOLERANCE}


def test_inside_of_a_mini_batch_only_the_bias_of_its_ttt_is_another() -> None:
    """It pads the sequence to whole mini-batches, and the padding moves the bias."""
    apart = differences(row(PEERS["TTT"]), 14, d=4)
    assert [part for part in ("answers", "F.w", "F.b") if apart[part] > TOLERANCE] == ["F.b"]
