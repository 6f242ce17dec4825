"""The oracles of MIRAS and Atlas against closed forms, each derived by another route."""

import math

import pytest
import torch
from torch import Tensor

from .deep import GATES, D, Pairs, T, close, draw, draw_pairs, mlp_gradient, mlp_start, number
from .oracles.atlas import atlas, dla, dot_memory, omega_net, polynomial
from .oracles.miras import memora, moneta, yaad
from .oracles.nets import QUINTIC, matrix, mlp
from .oracles.titans import titans


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


@pytest.fixture
def pairs() -> Pairs:
    return draw_pairs()


@pytest.mark.parametrize("chunk", [1, 3])
def test_moneta_linear_by_the_printed_gradient(pairs: Pairs, chunk: int) -> None:
    q, k, v = pairs
    sums, eta = draw(D, D), 0.1 * GATES
    y, state = moneta(matrix, {"w": sums}, q, k, v, GATES.flip(0) + 0.1, eta, chunk=chunk)
    weights = sums / (sums**4).sum() ** 0.5
    for t in range(T):
        if t % chunk == 0:
            anchor = weights
        error = k[t] @ anchor - v[t]
        sums = (GATES.flip(0)[t] + 0.1) * sums - eta[t] * torch.outer(k[t], 3 * error.sign() * error.abs() ** 2)
        weights = sums / (sums**4).sum() ** 0.5
        close(y[t], q[t] @ weights)
    close(torch.linalg.vector_norm(state["weights"]["w"], 4) * torch.linalg.vector_norm(sums, 4), number(1.0))


def test_moneta_with_two_norms_is_gradient_descent_on_the_square(pairs: Pairs) -> None:
    start, zero = mlp_start(), torch.zeros(T, dtype=torch.float64)
    y, _ = moneta(mlp, start, *pairs, GATES, 0.2 * GATES, p=2, q_norm=2, chunk=3)
    close(y, titans(mlp, start, *pairs, zero, 0.4 * GATES, 1 - GATES, 3)[0])
    smooth, _ = moneta(mlp, start, *pairs, GATES, 0.2 * GATES, p=2, q_norm=2, chunk=3, smooth=1e6)
    close(smooth, y, 1e-3)


@pytest.mark.parametrize("huber", ["norm", "l1", "coordinate"])
def test_yaad_clips_the_error(pairs: Pairs, huber: str) -> None:
    q, k, v = pairs
    w, delta = draw(D, D), torch.tensor([0.0, 0.2, 0.5, 9.0, 0.4, 1.0, 0.3], dtype=torch.float64)
    y, _ = yaad(matrix, {"w": w}, q, k, v, GATES, 0.5 * GATES.flip(0), delta, huber=huber)
    for t in range(T):
        error = k[t] @ w - v[t]
        clipped = {
            "norm": error * torch.clamp(delta[t] / error.norm(), max=1),
            "l1": error if error.norm() <= delta[t] else delta[t] * error.sign(),
            "coordinate": error.clamp(-delta[t], delta[t]),
        }[huber]
        w = GATES[t] * w - 0.5 * GATES.flip(0)[t] * torch.outer(k[t], clipped)
        close(y[t], q[t] @ w)


def test_memora_on_a_hand_worked_token() -> None:
    half, one = torch.full((2, 1), 0.5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    k, v = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    # The gradient (0.5, 0) times 2 ln 2 halves the first weight: (1/4, 1/2), which sums to 3/4.
    _, state = memora(matrix, {"w": half}, k, k, v, one, 2 * math.log(2) * one)
    close(state["weights"]["w"][:, 0], torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))


@pytest.mark.parametrize("axis, dim", [("input", 0), ("output", 1)])
@pytest.mark.parametrize("link_every", ["token", "chunk"])
def test_memora_is_a_multiplicative_update(pairs: Pairs, axis: str, dim: int, link_every: str) -> None:
    q, k, v = pairs
    start = {name: w.softmax(dim) for name, w in mlp_start().items()}
    options = {"axis": axis, "link_every": link_every}
    y, _ = memora(mlp, start, q, k, v, GATES, GATES.flip(0), 3, **options)
    weights = shown = start
    for t in range(T):
        if t % 3 == 0:
            anchor = weights
        grads = mlp_gradient(anchor, k[t], v[t])
        weights = {n: w ** GATES[t] * torch.exp(-GATES.flip(0)[t] * grads[n]) for n, w in weights.items()}
        weights = {n: w / w.sum(dim, keepdim=True) for n, w in weights.items()}
        shown = weights if link_every == "token" or t % 3 == 2 else shown
        close(y[t], mlp(shown, q[t]))


@pytest.mark.parametrize("window", [1, 3, 9])
def test_omega_linear_is_a_delta_rule_of_rank_window(pairs: Pairs, window: int) -> None:
    q, k, v = pairs
    start, gamma = draw(D, D), draw(T, window)
    y, _ = omega_net(matrix, {"w": start}, q, k, v, GATES.flip(0), gamma, window)
    w = start
    for t in range(T):
        seen = list(range(max(0, t - window + 1), t + 1))
        g = torch.stack([gamma[t, t - i] for i in seen])[:, None]
        w = (GATES.flip(0)[t] * torch.eye(D, dtype=torch.float64) - k[seen].T @ (g * k[seen])) @ w
        w = w + k[seen].T @ (g * v[seen])
        close(y[t], q[t] @ w, 1e-9)
    own = torch.stack([GATES[[max(t - j, 0) for j in range(window)]] for t in range(T)])
    ones = torch.ones(T, dtype=torch.float64)
    by_pair = dot_memory(matrix, {"w": start}, q, k, v, GATES, window, 2)[0]
    close(by_pair, omega_net(matrix, {"w": start}, q, k, v, ones, own / 2, window, 2, scale=1.0)[0])


def test_dla_linear_is_decayed_linear_attention(pairs: Pairs) -> None:
    q, k, v = pairs
    start = {"w": draw(D, D)}
    y, _ = dla(matrix, start, q, k, v, GATES, GATES.flip(0), chunk=4)
    for t in range(T):
        kept = torch.stack([GATES[j + 1 : t + 1].prod() * GATES.flip(0)[j] for j in range(t + 1)])
        close(y[t], GATES[: t + 1].prod() * q[t] @ start["w"] + (kept * (k[: t + 1] @ q[t])) @ v[: t + 1])
    summed, _ = dot_memory(matrix, start, q, k, v, GATES, 1, bias="dot")
    close(summed, q @ start["w"] + torch.tril(q @ k.T * GATES) @ v)


def test_atlas_of_one_pair_writes_a_scaled_rank_one_matrix(pairs: Pairs) -> None:
    q, k, v = pairs
    w, ones = draw(D, D), torch.ones(T, dtype=torch.float64)
    y, state = atlas(matrix, {"w": w}, q, k, v, 0 * ones, GATES, GATES.flip(0), 0.5 * ones, 1)
    for t in range(T):
        error = 0.5 * (v[t] - k[t] @ w)
        value = k[t].norm() * error.norm() / (k[t].norm() * error.norm() + 1e-7)
        for _ in range(5):
            value = sum(c * value**power for c, power in zip(QUINTIC, (1, 3, 5), strict=True))
        w = GATES[t] * w + GATES.flip(0)[t] * value * torch.outer(k[t] / k[t].norm(), error / error.norm())
        close(y[t], q[t] @ w, 1e-9)
    close(state["momentum"]["w"], torch.outer(k[-1], error))


def test_atlas_momentum_is_that_of_titans_at_a_fixed_state(pairs: Pairs) -> None:
    start, ones = mlp_start(), torch.ones(T, dtype=torch.float64)
    _, state = atlas(mlp, start, *pairs, GATES, ones, ones, ones, 1, chunk=T)
    _, wanted = titans(mlp, start, *pairs, GATES, ones, ones, T)
    close(state["momentum"]["up"], wanted["momentum"]["up"])


def test_polynomial_has_every_monomial_once() -> None:
    x, a = torch.tensor([2.0, 3.0], dtype=torch.float64), torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    assert polynomial(x, 2, a).tolist() == [1, 2, 3, 2, 3, 4.5]
    assert polynomial(x, 2, a, constant=False).tolist() == [2, 3, 2, 3, 4.5]
    x = draw(4)
    assert len(polynomial(x, 3, torch.ones(4))) == math.comb(4 + 3, 3)
    # Newton's identity: m h_m = sum_i p_i h_(m-i), h_m the sum of the monomials of degree m, p_i that of x^i.
    h = [number(1.0)]
    for m in range(1, 4):
        h.append(sum(((x**i).sum() * h[m - i] for i in range(1, m + 1)), number(0.0)) / m)
    for m in range(4):
        close(polynomial(x, 3, torch.eye(4, dtype=torch.float64)[m]).sum(), h[m])


def test_outer_gradients_by_finite_differences(pairs: Pairs) -> None:
    start, gates = mlp_start(), 0.2 + 0.3 * GATES
    leaves = [x.clone().requires_grad_() for x in (*pairs, start["up"], start["down"], gates)]

    def run(q: Tensor, k: Tensor, v: Tensor, up: Tensor, down: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
        weights, simplex = {"up": up, "down": down}, {"up": up.softmax(0), "down": down.softmax(0)}
        return (
            moneta(mlp, weights, q, k, v, gate, gate, chunk=3)[0],
            yaad(mlp, weights, q, k, v, gate, gate, gate)[0],
            memora(mlp, simplex, q, k, v, gate, gate, 3)[0],
            atlas(mlp, weights, q, k, v, gate, gate, gate, gate, 2, chunk=3)[0],
        )

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
