"""The oracles of LaCT, TNT and TTT-E2E against closed forms, each derived by another route."""

import pytest
import torch
from torch import Tensor

from .deep import GATES, D, H, Pairs, T, close, draw, draw_pairs, mlp_start
from .oracles.lact import SCHEDULE, lact
from .oracles.nets import Params, matrix, mlp, newton_schulz
from .oracles.segments import ttt_e2e
from .oracles.titans import titans
from .oracles.tnt import tnt


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


@pytest.fixture
def pairs() -> Pairs:
    return draw_pairs()


def swiglu_start() -> Params:
    return {"gate": draw(D, H), "up": draw(D, H), "down": draw(H, D)}


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 8])
def test_lact_in_the_papers_own_layout(pairs: Pairs, chunk: int, muon: bool) -> None:
    q, k, v = pairs
    start, rates, momentum = swiglu_start(), torch.rand(3, T, dtype=torch.float64), torch.sigmoid(draw(T))
    y, state = lact(start, q, k, v, *rates, chunk, momentum, muon)
    w0, w1, w2 = (start[name].T for name in ("gate", "down", "up"))
    norms = [w.norm(dim=1, keepdim=True) for w in (w0, w1, w2)]
    p0, p1, p2 = (torch.zeros_like(w) for w in (w0, w1, w2))
    for s in range(0, T, chunk):
        ks, vs, (l0, l1, l2) = k[s : s + chunk].T, v[s : s + chunk].T, rates[:, s : s + chunk]
        asked = q[s : s + chunk].T
        close(y[s : s + chunk].T, w1 @ (torch.nn.functional.silu(w0 @ asked) * (w2 @ asked)), 1e-9)
        if s + chunk > T:
            break
        gate, hidden = w0 @ ks, w2 @ ks
        sigma = torch.sigmoid(gate)
        back, m = w1.T @ vs, momentum[s : s + chunk].mean()
        p0 = (back * hidden * sigma * (1 + gate * (1 - sigma)) * l0) @ ks.T + m * p0
        p1 = (vs * l1) @ (gate * sigma * hidden).T + m * p1
        p2 = (back * gate * sigma * l2) @ ks.T + m * p2
        writes = [newton_schulz(p, SCHEDULE) if muon else p for p in (p0, p1, p2)]
        w0, w1, w2 = (
            (w + p) / ((w + p).norm(dim=1, keepdim=True) + 1e-5) * norm
            for w, p, norm in zip((w0, w1, w2), writes, norms, strict=True)
        )
    close(state["weights"]["down"], w1.T, 1e-9)
    close(state["momentum"]["gate"], p0.T, 1e-9)


def test_lact_keeps_the_incoming_norms_and_spares_the_last_chunk(pairs: Pairs) -> None:
    start, rates = swiglu_start(), torch.rand(3, T, dtype=torch.float64)
    _, state = lact(start, *pairs, *rates, 2, eps=0.0)
    for name, w in state["weights"].items():
        close(w.norm(dim=0), start[name].norm(dim=0))
        assert not torch.allclose(w, start[name])
    six = [x[:6] for x in (*pairs, *rates)]
    close(lact(start, *six, 2, eps=0.0)[1]["weights"]["up"], state["weights"]["up"])
    four = [x[:4] for x in (*pairs, *rates)]
    spared = lact(start, *six, 2, eps=0.0, write_last=False)[1]["weights"]["up"]
    close(spared, lact(start, *four, 2, eps=0.0)[1]["weights"]["up"])


def test_tnt_is_titans_without_momentum_run_on_every_shard(pairs: Pairs) -> None:
    wide, *narrow = (mlp_start() for _ in range(3))
    etas, zero, shard = [GATES.flip(0), 0.3 * GATES, GATES.roll(2)], torch.zeros(T, dtype=torch.float64), 4
    y, state = tnt(mlp, wide, narrow, *pairs, etas[0], etas[1:], 3, [2, 3], shard)
    wanted, _ = titans(mlp, wide, *pairs, zero, etas[0], zero, 3, read="start")
    for start, eta, chunk in zip(narrow, etas[1:], [2, 3], strict=True):
        shards = zip(*(x.split(shard) for x in (*pairs, zero, eta, zero)), strict=True)
        parts = [titans(mlp, start, *part, chunk) for part in shards]
        wanted = wanted + torch.cat([part[0] for part in parts])
    close(y, wanted)
    close(state["local1"]["up"], parts[-1][1]["weights"]["up"])
    two_chunks = titans(mlp, wide, *(x[:6] for x in (*pairs, zero, etas[0], zero)), 3)[1]["weights"]
    close(state["global_start"]["down"], two_chunks["down"])


def test_tnt_linear_by_matrix_products(pairs: Pairs) -> None:
    q, k, v = pairs
    wide, local, chunk, shard = draw(D, D), draw(D, D), 3, 6
    y, _ = tnt(matrix, {"w": wide}, [{"w": local}], q, k, v, GATES, [0.1 * GATES], chunk, [2], shard)
    projected, _ = tnt(
        matrix, {"w": wide}, [{"w": local}], q, k, v, GATES, [0.1 * GATES], chunk, [2], shard, project_queries=True
    )
    w, g = local, wide
    for s in range(0, T, 2):
        w = local if s % shard == 0 else w
        for t in range(s, min(s + 2, T)):
            if t and t % chunk == 0:
                seen = slice(t - chunk, t)
                g = g - (GATES[seen, None] * k[seen]).T @ (k[seen] @ g - v[seen])
            ks = k[s : t + 1]
            now = w - (0.1 * GATES[s : t + 1, None] * ks).T @ (ks @ w - v[s : t + 1])
            close(y[t], q[t] @ g + q[t] @ now)
            directions = ks / ks.norm(dim=1, keepdim=True)
            close(projected[t], q[t] @ g + q[t] @ directions.T @ directions @ now)
        w = now


IDS = torch.tensor([0, 2, 1, 1, 3, 0, 2])


def bigram(params: Params, ids: Tensor) -> Tensor:
    """Logits from a table row, plus a slow bias."""
    return params["table"][ids] + params["bias"]


def mean_model(params: Params, ids: Tensor) -> Tensor:
    """Logits from the mean embedding of the tokens so far."""
    count = torch.arange(1, len(ids) + 1, dtype=torch.float64)
    return torch.tanh(params["embed"][ids].cumsum(0) / count[:, None]) @ params["table"]


@pytest.mark.parametrize("reduction, clip", [("sum", None), ("mean", None), ("sum", 0.5), ("sum", 99.0)])
@pytest.mark.parametrize("period", [1, 2, 3, 7, 8])
def test_ttt_e2e_on_a_bigram_table(period: int, reduction: str, clip: float | None) -> None:
    params = {"table": draw(4, 4), "bias": draw(4)}
    logits, state = ttt_e2e(bigram, params, ["table"], IDS, 0.7, period, clip, reduction=reduction)
    table = params["table"]
    for t in range(T):
        if t and t % period == 0:
            step = torch.zeros(4, 4, dtype=torch.float64)
            for s in range(t - period, t):
                step[IDS[s]] += torch.softmax(table[IDS[s]] + params["bias"], 0)
                step[IDS[s], IDS[s + 1]] -= 1
            step = step / period if reduction == "mean" else step
            step = step * min(1.0, clip / step.norm().item()) if clip else step
            table = table - 0.7 * step
        close(logits[t], table[IDS[t]] + params["bias"])
    close(state["weights"]["table"], table)


@pytest.mark.parametrize("context", ["prefix", "window"])
def test_ttt_e2e_is_causal_and_writes_before_the_next_window(context: str) -> None:
    params = {"embed": draw(4, D), "table": draw(D, 4)}
    logits, _ = ttt_e2e(mean_model, params, ["table"], IDS, 0.5, 3, context=context)
    for t in range(T):
        changed = IDS.clone()
        changed[t] = (IDS[t] + 1) % 4
        other, _ = ttt_e2e(mean_model, params, ["table"], changed, 0.5, 3, context=context)
        close(other[:t], logits[:t])
        assert not torch.allclose(other[t], logits[t])
    still = mean_model(params, IDS)
    close(logits[:3], still[:3])
    assert not torch.allclose(logits[3], still[3])
    # Cut after the first target of the second window, the last token of the first has been learned from.
    assert ttt_e2e(mean_model, params, ["table"], IDS[:3], 0.5, 3)[1]["weights"]["table"] is params["table"]
    assert not torch.equal(
        ttt_e2e(mean_model, params, ["table"], IDS[:4], 0.5, 3)[1]["weights"]["table"], params["table"]
    )


def test_ttt_e2e_outer_gradients() -> None:
    leaves = [draw(4, D).requires_grad_(), draw(D, 4).requires_grad_()]

    def run(embed: Tensor, table: Tensor, detached: bool = False) -> Tensor:
        params = {"embed": embed, "table": table}
        return ttt_e2e(mean_model, params, ["table"], IDS, 0.5, 2, 1.0, detached=detached)[0]

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    through = torch.autograd.grad(run(*leaves)[..., 1].sum(), leaves[1])[0]
    first_order = torch.autograd.grad(run(*leaves, detached=True)[..., 1].sum(), leaves[1])[0]
    hidden = torch.tanh(leaves[0][IDS].cumsum(0) / torch.arange(1, T + 1)[:, None])
    # With the steps as data, the table that answers is the start plus a constant.
    close(first_order[:, 1], hidden.sum(0))
    assert first_order[:, [0, 2, 3]].abs().max() == 0
    assert not torch.allclose(through[:, 1], hidden.sum(0))
