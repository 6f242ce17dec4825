"""The oracles of the linear rules and the optimizers against closed forms, each derived by another route."""

import math

import pytest
import torch
from torch import Tensor

from .oracles import attention, backprop, delta, linear, longhorn, maml, mesa, optimizers, srwm

SIZES = [(1, 3, 2), (6, 2, 5), (11, 5, 3)]  # T, d_k, d_v


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=SIZES, ids=str)
def drawn(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, two rows of gates and a start state. Keys share a component; gates include 0, 1, 2 and exp(-20)."""
    T, d_k, d_v = request.param
    torch.manual_seed(T)
    q, v, start = random(T, d_k), random(T, d_v), random(d_k, d_v)
    k = torch.nn.functional.normalize(random(T, d_k) + 2 * random(d_k), dim=1) * (0.5 + random(T, 1).abs())
    return q, k, v, gates(T), gates(T), start


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def gates(T: int) -> Tensor:
    values = torch.cat(
        [torch.tensor([0, 1, 2, math.exp(-20)], dtype=torch.float64), torch.rand(T, dtype=torch.float64)]
    )
    return values[:T][torch.randperm(T)]


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


def outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]


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


@pytest.mark.parametrize("window", [0, 1, 3])
def test_attention_is_masked_softmax(drawn, window):
    q, k, v, *_ = drawn
    T, pk, pv = len(q), random(2, k.shape[1]), random(2, v.shape[1])
    age = torch.arange(T)[:, None] - torch.arange(T)
    seen = (age >= 0) & (age < (window or T))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    y, state = attention.softmax_attention(q, k, v, window)
    close(y, sdpa(q, k, v, attn_mask=seen))
    close(state["k"], k[seen[-1]])
    close(state["v"], v[seen[-1]])
    close(attention.softmax_attention(500 * q, k, v, window, 2.0)[0], sdpa(500 * q, k, v, attn_mask=seen, scale=2.0))
    seen = torch.cat([torch.ones(T, 2, dtype=torch.bool), seen], dim=1)
    wanted = sdpa(q, torch.cat([pk, k]), torch.cat([pv, v]), attn_mask=seen)
    close(attention.attention_with_persistent(q, k, v, pk, pv, window)[0], wanted)


def test_rope_is_a_turn_of_complex_numbers():
    torch.manual_seed(2)
    x, positions = random(5, 6), torch.tensor([0.0, 1.0, 7.0, 40.0, 1000.0], dtype=torch.float64)
    angles = positions[:, None] * torch.tensor([1.0, 100 ** (-1 / 3), 100 ** (-2 / 3)], dtype=torch.float64)
    turned = torch.complex(x[:, :3], x[:, 3:]) * torch.polar(torch.ones_like(angles), angles)
    close(attention.rope(x, positions, base=100.0), torch.cat([turned.real, turned.imag], dim=1))


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


@pytest.fixture(params=[(5, 4, 3), (5, 2, 6), (4, 3, 3)], ids=str)
def gradients(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Gradients [T, n, m] and start weights [n, m]: tall, wide, square."""
    torch.manual_seed(7)
    return random(*request.param), random(*request.param[1:])


def test_optimizers_of_torch(gradients):
    g, w0 = gradients
    sgd, moments = torch.optim.SGD, {"betas": (0.8, 0.95), "eps": 1e-3}
    for weights, make in [
        (optimizers.gd(g, w0, 0.3), lambda w: sgd(w, 0.3)),
        (optimizers.momentum(g, w0, 0.3, 0.9), lambda w: sgd(w, 0.3, momentum=0.9)),
        (optimizers.nesterov(g, w0, 0.3, 0.9), lambda w: sgd(w, 0.3, momentum=0.9, nesterov=True)),
        (optimizers.adam(g, w0, 0.3), lambda w: torch.optim.Adam(w, 0.3)),
        (
            optimizers.adam(g, w0, 0.3, 0.8, 0.95, 1e-3, 0.2),
            lambda w: torch.optim.Adam(w, 0.3, **moments, weight_decay=0.2),
        ),
        (optimizers.adamw(g, w0, 0.3), lambda w: torch.optim.AdamW(w, 0.3)),
        (
            optimizers.adamw(g, w0, 0.3, 0.8, 0.95, 1e-3, 0.2),
            lambda w: torch.optim.AdamW(w, 0.3, **moments, weight_decay=0.2),
        ),
    ]:
        weight = torch.nn.Parameter(w0.clone())
        optimizer = make([weight])
        for g_t, got in zip(g, weights, strict=True):
            weight.grad = g_t.clone()
            optimizer.step()
            close(got, weight.detach(), 1e-12)


def orthogonalised(x: Tensor, rounds: int) -> Tensor:
    """Newton-Schulz as what it does to the singular values."""
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    values = values / (values.square().sum().sqrt() + 1e-7)
    for _ in range(rounds):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def test_muon_and_m3_turn_singular_values(gradients):
    g, w0 = gradients
    _, n, m = g.shape
    weight = w0
    for t, got in enumerate(optimizers.muon(g, w0, 0.1, 0.9, rounds=4)):
        average = sum(0.1 * 0.9 ** (t - s) * g[s] for s in range(t + 1))
        weight = weight - 0.1 * math.sqrt(max(1, m / n)) * orthogonalised(0.9 * average + 0.1 * g[t], 4)
        close(got, weight)
    weight = w0
    for t, got in enumerate(optimizers.m3(g, w0, 0.1, 0.9, 0.99, 0.7, 0.5, slow_every=2, rounds=3, eps=1e-4)):
        past, slow = g[: t + 1], 0.7 * g[: t - t % 2].sum(0)
        direction = orthogonalised(0.9 * past.sum(0), 3) + 0.5 * orthogonalised(slow, 3)
        weight = weight - 0.1 * direction / ((0.99 * past.square().sum(0)).sqrt() + 1e-4)
        close(got, weight)


def test_delta_and_deep_momentum_descend_their_objectives(gradients):
    g, w0 = gradients
    p = random(w0.shape[1], w0.shape[1])
    weight, m = w0, torch.zeros_like(w0)
    for g_t, got in zip(g, optimizers.delta_momentum(g, w0, 0.05, 0.9, p), strict=True):
        m = 0.9 * m - 0.05 * torch.func.grad(lambda m, g_t=g_t: 0.5 * (m.T @ g_t + p.T).square().sum())(m)
        weight = weight + m
        close(got, weight)
    up, down = random(w0.shape[1], 7), random(7, w0.shape[1])
    weight, weights = w0, optimizers.deep_momentum(g, w0, up, down, 0.05, 0.9)
    for g_t, got in zip(g, weights, strict=True):
        z = g_t @ up
        cdf = (1 + torch.erf(z / math.sqrt(2))) / 2
        slope = cdf + z * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        up, down = (
            0.9 * up - 0.05 * g_t.T @ (slope * down.sum(1)),
            0.9 * down - 0.05 * (z * cdf).sum(0)[:, None],
        )
        z = g_t @ up
        weight = weight + g_t + z * (1 + torch.erf(z / math.sqrt(2))) / 2 @ down
        close(got, weight)


def test_dgd_minimises_its_objective():
    torch.manual_seed(3)
    keys, errors, weight, lr = random(5, 4), random(5, 3), random(4, 3), 0.6
    for x, error, got in zip(keys, errors, optimizers.dgd(outer(keys, errors), keys, weight, lr), strict=True):
        a = torch.cat([x[None], torch.eye(4, dtype=x.dtype) / math.sqrt(lr)])
        weight = torch.linalg.lstsq(a, torch.cat([-error[None], weight / math.sqrt(lr)])).solution
        close(got, weight)


def test_maml_on_a_quadratic():
    torch.manual_seed(4)
    root, theta = random(3, 3), random(3)
    a, eye = root @ root.T, torch.eye(3, dtype=theta.dtype)
    tasks = [(random(3), random(3)) for _ in range(2)]

    def loss(weights: dict[str, Tensor], centre: Tensor) -> Tensor:
        return 0.5 * (weights["w"] - centre) @ a @ (weights["w"] - centre)

    inner = torch.linalg.matrix_power(eye - 0.1 * a, 3)
    slopes = [a @ (first + inner @ (theta - first) - second) for first, second in tasks]
    value, gradient = maml.maml(loss, {"w": theta}, tasks, 0.1, 3)
    close(gradient["w"], inner @ sum(slopes))
    close(value, sum(0.5 * slope @ torch.linalg.solve(a, slope) for slope in slopes))
    close(maml.maml(loss, {"w": theta}, tasks, 0.1, 3, first_order=True)[1]["w"], sum(slopes))


def test_backprop_is_local_learning():
    torch.manual_seed(5)
    weights, x, target = [random(3, 4), random(4, 4), random(4, 2)], random(5, 3), random(5, 2)
    steps = [
        step(weights, x, lambda y: (y - target).pow(4).sum(), 0.1)
        for step in (backprop.backprop_step, backprop.memory_step)
    ]
    for got, wanted, before in zip(*steps, weights, strict=True):
        close(got, wanted)
        assert not torch.allclose(got, before)
