"""The oracles of the linear rules against closed forms, each derived by another route."""

import math

import pytest
import torch
from torch import Tensor

from .deep import close
from .linear import SIZES, Case, draw_case, gates, outer, random
from .oracles import delta, linear, longhorn, mesa, srwm


@pytest.fixture(params=SIZES, ids=str)
def drawn(request: pytest.FixtureRequest) -> Case:
    return draw_case(*request.param)


def unrolled(factors: Tensor, terms: Tensor, start: Tensor) -> Tensor:
    """All S_t of S <- A_t S + B_t, as sums of products of A; A: [T, n, n], B: [T, n, m], start: [n, m]."""
    states = []
    for t in range(len(factors)):
        state, product = torch.zeros_like(start), torch.eye(len(start), dtype=start.dtype)
        for s in range(t, -1, -1):
            state, product = state + product @ terms[s], product @ factors[s]
        states.append(state + product @ start)
    return torch.stack(states)


def read(q: Tensor, states: Tensor) -> Tensor:
    return torch.einsum("tk,tkv->tv", q, states)


def test_linear_attention_is_the_masked_quadratic_form(drawn):
    q, k, v, decay, _, start = drawn
    y, state = linear.linear_attention(q, k, v, start)
    close(y, (q @ k.T).tril() @ v + q @ start)
    close(state["S"], k.T @ v + start)
    close(linear.linear_attention(q, k, v, start, read_before=True)[0], (q @ k.T).tril(-1) @ v + q @ start)
    kept = torch.stack([torch.stack([decay[j + 1 : i + 1].prod() for j in range(len(q))]) for i in range(len(q))])
    close(linear.gated_linear_attention(q, k, v, decay)[0], ((q @ k.T).tril() * kept) @ v)


def test_normalised_linear_attention_divides_by_the_row_sums(drawn):
    q, k, v, *_ = drawn
    phi_q, phi_k = (torch.where(x > 0, x + 1, torch.exp(x)) for x in (q, k))
    scores = (phi_q @ phi_k.T).tril()
    y, state = linear.normalised_linear_attention(q, k, v, eps=0.0)
    close(y, scores / scores.sum(1, keepdim=True) @ v)
    close(state["z"], phi_k.sum(0))
    close(linear.normalised_linear_attention(q, k, v)[0], scores @ v / (scores.sum(1, keepdim=True) + 1e-6))


def test_delta_rules_are_products_of_their_transitions(drawn):
    q, k, v, alpha, beta, start = drawn
    eye, gated, rate = torch.eye(k.shape[1], dtype=k.dtype), alpha[:, None, None], beta[:, None, None]
    b, d = torch.tensor(0.7, dtype=k.dtype), torch.tensor(0.3, dtype=k.dtype)
    written = rate * outer(k, v)
    states = unrolled(eye - rate * outer(k, k), written, start)
    y, state = delta.delta_net(q, k, v, beta, start)
    close(y, read(q, states))
    close(state["S"], states[-1])
    close(delta.delta_net(q, k, v, beta, start, read_before=True)[0], read(q, torch.cat([start[None], states[:-1]])))
    states = unrolled(gated * (eye - rate * outer(k, k)), written, start)
    close(delta.gated_delta_net(q, k, v, alpha, beta, start)[0], read(q, states))
    states = unrolled(gated * eye - rate * outer(k, k), written, start)
    close(delta.gated_delta_net(q, k, v, alpha, beta, start, error_on_decayed=False)[0], read(q, states))
    states = unrolled(gated * (eye - b * rate * outer(k, k)), written, start)
    close(delta.comba(q, k, v, alpha, beta, b, d, start)[0], read(q - d * b * k, states))


def test_delta_net_solves_the_triangular_system_of_its_errors(drawn):
    q, k, v, _, beta, start = drawn
    system = torch.eye(len(k), dtype=k.dtype) + (beta[:, None] * (k @ k.T)).tril(-1)
    errors = torch.linalg.solve(system, beta[:, None] * (v - k @ start))
    close(delta.delta_net(q, k, v, beta, start)[0], q @ start + (q @ k.T).tril() @ errors)


def test_longhorn_minimises_its_objective(drawn):
    q, k, x, *_, start = drawn
    beta = torch.stack([gates(x.shape[1]) for _ in x])
    y, state = longhorn.longhorn(q, k, x, beta, start)
    memory = start
    for t, k_t in enumerate(k):
        columns = []
        for j in range(x.shape[1]):
            root = beta[t, j].sqrt()
            a = torch.cat([torch.eye(len(k_t), dtype=k.dtype), root * k_t[None]])
            columns.append(
                torch.linalg.lstsq(a, torch.cat([memory[:, j], root * x[t, j, None]])[:, None]).solution[:, 0]
            )
        memory = torch.stack(columns, dim=1)
        close(y[t], q[t] @ memory)
    close(state["S"], memory)


def test_longhorn_diagonal_is_a_scan_of_each_weight(drawn):
    q, k, x, *_, start = drawn
    beta = torch.stack([gates(x.shape[1]) for _ in x])
    y, state = longhorn.longhorn_diagonal(q, k, x, beta, start)
    for i in range(x.shape[1]):
        rate = (1 / beta[:, i] + (k * k).sum(1)) ** -1  # 0 where beta is 0
        factors = torch.diag_embed(1 - rate[:, None] * k * k)
        states = unrolled(factors, (rate * x[:, i])[:, None, None] * k[:, :, None], start[:, i, None])
        close(y[:, i], read(q, states)[:, 0])
        close(state["S"][:, i], states[-1, :, 0])
    # With keys of one number nothing is off the diagonal.
    q, k, start = q[:, :1], k[:, :1], start[:1]
    close(longhorn.longhorn_diagonal(q, k, x, beta, start)[0], longhorn.longhorn(q, k, x, beta, start)[0])


def test_mesa_net_is_ridge_regression_on_the_weighted_past(drawn):
    q, k, v, g, beta, _ = drawn
    lam = 0.25 + torch.rand(k.shape[1], dtype=k.dtype)
    y, _ = mesa.mesa_net(q, k, v, g, beta, lam)
    for t in range(len(q)):
        root = torch.stack([beta[s] * g[s + 1 : t + 1].prod() for s in range(t + 1)]).sqrt()[:, None]
        a = torch.cat([torch.diag(lam.sqrt()), root * k[: t + 1]])
        targets = torch.cat([v.new_zeros(len(lam), v.shape[1]), root * v[: t + 1]])
        close(y[t], q[t] @ torch.linalg.lstsq(a, targets).solution)
    close(mesa.mesa_net_cg(q, k, v, g, beta, lam, rounds=30)[0], y)


def test_conjugate_gradients_minimise_over_the_krylov_space():
    torch.manual_seed(0)
    root, b = random(5, 5), random(5)
    a = root @ root.T + torch.eye(5, dtype=b.dtype)
    for rounds in range(1, 6):
        basis = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(a, i) @ b for i in range(rounds)], dim=1)).Q
        wanted = basis @ torch.linalg.solve(basis.T @ a @ basis, basis.T @ b)
        close(mesa.conjugate_gradients(a, b, rounds), wanted, 1e-9)
    close(mesa.conjugate_gradients(a, torch.zeros_like(b), 3), torch.zeros_like(b))


def test_srwm_two_tokens_by_hand():
    log3, zero = math.log(3), torch.zeros(2, 4, dtype=torch.float64)
    # Both tokens read the first rows, so q = (3, 1)/4, k = (1, 3)/4, q - k = (1, -1)/2 and all four rates are 1/2.
    W_q, W_k = zero[:, :2].clone(), zero[:, :2].clone()
    W_q[0, 0] = W_k[0, 1] = log3
    x, eye = torch.tensor([[1.0, 0.0]] * 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    y, _ = srwm.srwm(x, eye, W_q, W_k, zero)
    close(y, torch.tensor([[1.0, 0.0], [17 / 16, -1 / 16]], dtype=torch.float64))
    _, state = srwm.srwm(x[:1], eye, W_q, W_k, zero)
    close(state["W_q"], log3 * torch.tensor([[17 / 16, 0], [3 / 16, 0]], dtype=torch.float64))
    close(state["W_k"], log3 * torch.tensor([[0, 17 / 16], [0, 3 / 16]], dtype=torch.float64))


def test_srwm_is_a_delta_rule_on_one_matrix_in_columns():
    torch.manual_seed(1)
    x, parts = random(5, 3), [random(3, 2), random(3, 3), random(3, 3), random(3, 4)]
    y, state = srwm.srwm(x, *parts)
    sizes = [2, 3, 3, 4]
    W = torch.cat(parts, dim=1).T
    for t in range(len(x)):
        out, query, key, rates = (W @ x[t]).split(sizes)
        close(y[t], out)
        rates = torch.cat([r.expand(n) for r, n in zip(rates.sigmoid(), sizes, strict=True)])
        W = W + rates[:, None] * outer((W @ (query.softmax(0) - key.softmax(0)))[None], key.softmax(0)[None])[0]
    close(torch.cat([state[name] for name in ("W_y", "W_q", "W_k", "W_b")], dim=1), W.T)


def test_split_runs_and_gradients(drawn):
    q, k, v, alpha, beta, start = drawn
    cut = len(q) // 2 + 1
    first, state = delta.gated_delta_net(q[:cut], k[:cut], v[:cut], alpha[:cut], beta[:cut], start)
    if cut < len(q):
        rest = (x[cut:] for x in (q, k, v, alpha, beta))
        first = torch.cat([first, delta.gated_delta_net(*rest, state["S"])[0]])
    close(first, delta.gated_delta_net(q, k, v, alpha, beta, start)[0], 0.0)
    inputs = [x[:2].clone().requires_grad_() for x in (q, k, v, alpha, beta)] + [start.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda *xs: delta.gated_delta_net(*xs)[0], inputs)
    lam = torch.ones(k.shape[1], dtype=k.dtype, requires_grad=True)
    exact = torch.autograd.grad(mesa.mesa_net(*inputs[:5], lam)[0].sum(), [*inputs[1:5], lam])
    solved = torch.autograd.grad(mesa.mesa_net_cg(*inputs[:5], lam, rounds=30)[0].sum(), [*inputs[1:5], lam])
    for got, wanted in zip(solved, exact, strict=True):
        close(got, wanted, 1e-7)
