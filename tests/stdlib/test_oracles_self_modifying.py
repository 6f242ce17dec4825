"""The oracles of the self-modifying Titans' three stages against hand-written gradients."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from .deep import D, Pairs, T, close, draw, draw_pairs, mlp_pull, mlp_start, number
from .oracles.nets import Net, Params, matrix, residual_mlp
from .oracles.self_modifying import adaptive_projections, fixed_projections, self_modifying_titans, unit
from .oracles.titans import titans


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


@pytest.fixture
def pairs() -> Pairs:
    return draw_pairs()


def mean(x: Tensor) -> Tensor:
    return 0.3 * x.mean()


def keep(x: Tensor) -> Tensor:
    return torch.sigmoid(x).mean()


def test_fixed_projections_with_a_matrix_are_a_decayed_delta_rule(pairs: Pairs) -> None:
    x, w = pairs[1], draw(D, D)
    projections = {name: draw(D, D) for name in ("q", "k", "v", "eta", "alpha")}
    y, _ = fixed_projections(matrix, {"w": w}, x, projections, mean, keep)
    for t in range(T):
        q, k, v, eta, alpha = (x[t] @ p for p in projections.values())
        w = (keep(alpha) * torch.eye(D, dtype=torch.float64) - mean(eta) * torch.outer(k, k)) @ w
        w = w + mean(eta) * torch.outer(k, v)
        close(y[t], q @ w)


@pytest.mark.parametrize("keys", ["own", "shared"])
def test_adaptive_projections_with_matrices(pairs: Pairs, keys: str) -> None:
    names = ("q", "k", "v", "eta", "alpha", "M")
    nets: dict[str, Net] = dict.fromkeys(names, matrix)
    w = {name: draw(D, D) for name in names}
    y, state = adaptive_projections(nets, {n: {"w": p} for n, p in w.items()}, pairs[1], mean, keep, keys=keys)
    for t, x in enumerate(pairs[1]):
        said = {name: x @ p for name, p in w.items()}
        eta, alpha = mean(said["eta"]), keep(said["alpha"])
        key = {n: said["k"] if n == "M" or keys == "shared" else said[n] for n in names}
        w = {n: alpha * p - eta * torch.outer(key[n], key[n] @ p - said["v"]) for n, p in w.items()}
        close(y[t], said["q"] @ w["M"])
    close(state["alpha"]["w"], w["alpha"])


def six_memories() -> dict[str, Params]:
    heads = {name: {**mlp_start(), "head": draw(D, 1)} for name in ("Eta", "Alpha")}
    return {**{name: mlp_start() for name in ("K", "V", "M")}, **heads}


def scalar(x: Tensor) -> Tensor:
    return 0.5 * torch.nn.functional.softplus(x)


def ask(params: Params, x: Tensor) -> Tensor:
    y = x + gelu(x @ params["up"]) @ params["down"]
    return y @ params["head"] if "head" in params else y


def layer_pairs(params: Params, k: Tensor, target: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """For every matrix its input and the error at its output, for 1/2 ||P(k) - target||^2, by hand."""
    error = ask(params, k) - target
    layers = {}
    if "head" in params:
        layers["head"] = (k + gelu(k @ params["up"]) @ params["down"], error)
        error = params["head"] @ error
    layers["down"] = (gelu(k @ params["up"]), error)
    up_error = mlp_pull(params, k, error)["up"]
    return {**layers, "up": (k, k @ up_error / (k @ k))}


@pytest.mark.parametrize("chunk, memory_chunk", [(1, None), (3, None), (8, None), (3, 2)])
@pytest.mark.parametrize("erase, unit_v", [("layers", True), ("first", False), ("none", True)])
def test_self_modifying_titans_as_affine_maps_of_every_matrix(
    pairs: Pairs, chunk: int, memory_chunk: int | None, erase: str, unit_v: bool
) -> None:
    q, h, z = pairs
    running = six_memories()
    options = {"memory_chunk": memory_chunk, "erase": erase}
    y, state = self_modifying_titans(running, q, h, z, scalar, torch.sigmoid, chunk, unit_v, **options)
    anchor = dict(running)
    for t in range(T):
        for name in running:
            if t % (memory_chunk or chunk if name == "M" else chunk) == 0:
                anchor[name] = running[name]
        close(y[t], ask(anchor["M"], q[t]))
        k, v = unit(ask(anchor["K"], h[t])), ask(anchor["V"], z[t])
        v = unit(v) if unit_v else v
        eta, alpha = scalar(ask(anchor["Eta"], h[t])), torch.sigmoid(ask(anchor["Alpha"], h[t]))
        for name, params in running.items():
            layers = layer_pairs(anchor[name], k, ask(anchor[name], v))
            new = {}
            for part, (key, error) in layers.items():
                erased = erase == "layers" or (erase == "first" and part == "up")
                transition = alpha * torch.eye(len(key), dtype=torch.float64) - erased * eta * torch.outer(key, key)
                new[part] = transition @ params[part] - eta * torch.outer(key, error)
            running[name] = new
    for name, params in running.items():
        for part, w in params.items():
            close(state[name][part], w)


def test_self_modifying_titans_learns_its_own_answers_with_titans(pairs: Pairs) -> None:
    q, h, z = pairs
    start = six_memories()
    options = {"memory_chunk": 1, "erase": "none"}
    y, state = self_modifying_titans(start, q, h, z, scalar, torch.sigmoid, T, **options)
    memory, zero = start["M"], torch.zeros(1, dtype=torch.float64)
    for t in range(T):
        k, v = (unit(residual_mlp(start[n], x[t])) for n, x in (("K", h), ("V", z)))
        gates = zero, scalar(ask(start["Eta"], h[t])), 1 - torch.sigmoid(ask(start["Alpha"], h[t]))
        token = q[t : t + 1], k[None], residual_mlp(memory, v)[None]
        part, left = titans(residual_mlp, memory, *token, *gates, read="before")
        close(y[t], part[0])
        memory = left["weights"]
    close(state["M"]["down"], memory["down"])


def test_self_modifying_titans_at_rest_is_a_static_memory(pairs: Pairs) -> None:
    start = six_memories()
    y, state = self_modifying_titans(start, *pairs, torch.zeros_like, torch.ones_like, 2)
    close(y, residual_mlp(start["M"], pairs[0]))
    close(state["Eta"]["head"], start["Eta"]["head"])
    close(unit(number(1.0)[None]), number(1 / math.sqrt(1 + 1e-6))[None])


def test_self_modifying_titans_outer_gradients(pairs: Pairs) -> None:
    start = six_memories()
    leaves = [x.clone().requires_grad_() for x in (*pairs, start["K"]["up"], start["Eta"]["head"], start["M"]["down"])]

    def run(q: Tensor, h: Tensor, z: Tensor, up: Tensor, head: Tensor, down: Tensor) -> Tensor:
        changed = {"K": {**start["K"], "up": up}, "Eta": {**start["Eta"], "head": head}}
        changed["M"] = {**start["M"], "down": down}
        return self_modifying_titans({**start, **changed}, q, h, z, scalar, torch.sigmoid, 2)[0]

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_detached_targets_change_the_outer_gradient_alone(pairs: Pairs) -> None:
    q, h, z = pairs
    z = z.clone().requires_grad_()
    run = (six_memories(), q, h, z, scalar, torch.sigmoid, 2)
    through, stopped = (self_modifying_titans(*run, detach_targets=detach)[0] for detach in (False, True))
    close(through, stopped)
    # v reaches the answers through the targets only.
    assert torch.autograd.grad(through.sum(), z)[0].abs().max() > 0
    assert not stopped.requires_grad
