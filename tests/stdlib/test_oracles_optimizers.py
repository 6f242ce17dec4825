"""The oracles of optimizers, MAML and back-propagation against torch's own and closed forms."""

import math

import pytest
import torch
from torch import Tensor

from .deep import close
from .linear import outer, random
from .oracles import backprop, maml, optimizers


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
