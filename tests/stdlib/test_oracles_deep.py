"""The oracles of the networks, TTT and Titans against closed forms, each derived by another route."""

import math

import pytest
import torch
from torch import Tensor

from .deep import GATES, D, H, Pairs, T, close, draw, draw_pairs, mlp_gradient, mlp_start, number
from .oracles import nets
from .oracles.attention import attention_with_persistent, softmax_attention
from .oracles.nets import QUINTIC, Params, layer_norm, matrix, mlp, newton_schulz
from .oracles.titans import mac, mag, mal, titans
from .oracles.ttt import ttt


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


@pytest.fixture
def pairs() -> Pairs:
    return draw_pairs()


def test_nets_on_hand_worked_inputs() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    x = number(1.0)[None]
    gelu_one = 0.8413447460685429  # 1 times the normal distribution function at 1
    params = {"up": one, "down": 2 * one, "gate": 3 * one}
    close(nets.residual_mlp(params, x), number(1 + 2 * gelu_one)[None])
    close(nets.gated_mlp(params, x), number(1 + 6 * gelu_one)[None])
    z, gain, bias = draw(D), draw(D), draw(D)
    close(layer_norm(z, gain, bias), torch.nn.functional.layer_norm(z, (D,), gain, bias, 1e-6))
    start = mlp_start()
    close(nets.miras_mlp(gain, bias)(start, z), z + layer_norm(mlp(start, z), gain, bias))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_newton_schulz_acts_on_the_singular_values(shape: tuple[int, int]) -> None:
    g = draw(*shape)
    left, values, right = torch.linalg.svd(g, full_matrices=False)
    values = values / (values.norm() + 1e-7)
    for _ in range(5):
        values = sum(c * values**power for c, power in zip(QUINTIC, (1, 3, 5), strict=True))
    close(newton_schulz(g, [QUINTIC] * 5), left * values @ right, 1e-9)


def layer_norm_pull(z: Tensor, target: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Gradient with respect to z [n, d] of 1/2 ||LN(z) - target||^2, by hand."""
    centred = z - z.mean(-1, keepdim=True)
    scale = torch.sqrt(z.var(-1, unbiased=False, keepdim=True) + 1e-6)
    normed = centred / scale
    g = gain * (gain * normed + bias - target)
    return (g - g.mean(-1, keepdim=True) - normed * (g * normed).mean(-1, keepdim=True)) / scale


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 9])
def test_ttt_linear_is_its_dual_form(pairs: Pairs, chunk: int) -> None:
    q, k, v = pairs
    w, b, gain, bias = draw(D, D), draw(D), draw(D), draw(D)
    share = torch.relu(1 / torch.arange(1, chunk + 1, dtype=torch.float64) + draw(chunk))
    y, state = ttt(nets.ttt_linear, {"w": w, "b": b}, q, k, v, GATES, share, gain, bias, chunk)
    for s in range(0, T, chunk):
        qs, ks, vs, rate = q[s : s + chunk], k[s : s + chunk], v[s : s + chunk], GATES[s : s + chunk]
        r = layer_norm_pull(ks @ w + b, vs - ks, gain, bias)
        steps = torch.tril(share[: len(qs), None] * rate)
        close(y[s : s + chunk], qs + layer_norm(qs @ w + b - (steps * (qs @ ks.T + 1)) @ r, gain, bias))
        w, b = w - ks.T @ (steps[-1][:, None] * r), b - steps[-1] @ r
    close(state["weights"]["w"], w)
    close(state["weights"]["b"], b)


def test_ttt_mlp_is_its_dual_form(pairs: Pairs) -> None:
    q, k, v = pairs
    start = {**mlp_start(), "up_bias": draw(H), "down_bias": draw(D)}
    gain, bias, share = draw(D), draw(D), torch.tensor([1.0, 0.0, 0.6, 0.2, 0.3, 0.1, 0.4], dtype=torch.float64)
    y, _ = ttt(nets.ttt_mlp, start, q, k, v, GATES, share, gain, bias, T)

    hidden_in = (k @ start["up"] + start["up_bias"]).requires_grad_()
    hidden = torch.nn.functional.gelu(hidden_in, approximate="tanh")
    error = layer_norm_pull(hidden @ start["down"] + start["down_bias"], v - k, gain, bias)
    (hidden_error,) = torch.autograd.grad(hidden, hidden_in, error @ start["down"].T)
    steps = torch.tril(share[:, None] * GATES)
    asked = q @ start["up"] + start["up_bias"] - (steps * (q @ k.T + 1)) @ hidden_error
    asked = torch.nn.functional.gelu(asked, approximate="tanh")
    answer = asked @ start["down"] + start["down_bias"] - (steps * (asked @ hidden.T + 1)) @ error
    close(y, q + layer_norm(answer, gain, bias))


def test_titans_on_two_hand_worked_tokens() -> None:
    column = {name: torch.tensor([[a], [b]], dtype=torch.float64) for name, a, b in [("k", 1, 2), ("v", 1, 3)]}
    gates = [torch.full((2,), value, dtype=torch.float64) for value in (0.5, 0.1, 0.25)]
    y, state = titans(matrix, {"w": draw(1, 1) * 0}, column["k"], column["k"], column["v"], *gates)
    # M_1 = S_1 = 0.1; then the error 0.2 - 3 gives S_2 = 0.05 + 0.1 * 5.6 and M_2 = 0.075 + S_2.
    close(y[:, 0], torch.tensor([0.1, 2 * 0.685], dtype=torch.float64))
    close(state["momentum"]["w"][0, 0], number(0.61))


def test_titans_linear_is_one_affine_map_of_memory_and_momentum(pairs: Pairs) -> None:
    q, k, v = pairs
    eta, theta, alpha = GATES.flip(0), GATES, GATES.roll(2)
    start, speed = draw(D, D), draw(D, D)
    y, state = titans(matrix, {"w": start}, q, k, v, eta, theta, alpha, momentum={"w": speed})
    both, eye = torch.cat([start, speed]), torch.eye(D, dtype=torch.float64)
    for t in range(T):
        gram = theta[t] * torch.outer(k[t], k[t])
        rows = [torch.cat([(1 - alpha[t]) * eye - gram, eta[t] * eye], 1), torch.cat([-gram, eta[t] * eye], 1)]
        both = torch.cat(rows) @ both + theta[t] * torch.outer(k[t], v[t]).repeat(2, 1)
        close(y[t], q[t] @ both[:D], 1e-9)
    close(torch.cat([state["weights"]["w"], state["momentum"]["w"]]), both, 1e-9)


@pytest.mark.parametrize("chunk", [1, 3, 7, 8])
def test_titans_in_chunks_is_the_scan_of_eqs_16_and_18(pairs: Pairs, chunk: int) -> None:
    q, k, v = pairs
    eta, theta, alpha = GATES.flip(0), 0.5 * GATES, GATES.roll(2)
    weights, speed = mlp_start(), mlp_start()
    y, state = titans(mlp, weights, q, k, v, eta, theta, alpha, chunk, momentum=speed)
    for s in range(0, T, chunk):
        ends = range(s, min(s + chunk, T))
        grads = {t: mlp_gradient(weights, k[t], v[t]) for t in ends}
        later, faster = weights, speed
        for t in ends:
            kept = {j: math.prod(1 - alpha[i].item() for i in range(j + 1, t + 1)) for j in range(s - 1, t + 1)}
            fade = {
                (i, j): math.prod(eta[s:][j - s + 1 : i - s + 1].tolist()) for i in ends for j in range(s - 1, i + 1)
            }
            spread = {j: sum(kept[i] * fade[i, j] for i in range(max(j, s), t + 1)) for j in range(s - 1, t + 1)}
            later = {n: kept[s - 1] * w + spread[s - 1] * speed[n] for n, w in weights.items()}
            faster = {n: fade[t, s - 1] * p for n, p in speed.items()}
            for j in range(s, t + 1):
                later = {n: w - spread[j] * theta[j] * grads[j][n] for n, w in later.items()}
                faster = {n: p - fade[t, j] * theta[j] * grads[j][n] for n, p in faster.items()}
            close(y[t], mlp(later, q[t]), 1e-9)
        weights, speed = later, faster
    close(state["weights"]["up"], weights["up"], 1e-9)
    close(state["momentum"]["down"], speed["down"], 1e-9)


def test_titans_reads_the_weights_it_names(pairs: Pairs) -> None:
    q, k, v = pairs
    start, chunk = mlp_start(), 3
    gates = (GATES.flip(0), 0.3 * GATES, GATES.roll(2))

    def after(tokens: int) -> Params:
        return titans(mlp, start, q[:tokens], k[:tokens], v[:tokens], *gates, chunk)[1]["weights"] if tokens else start

    wanted = {"after": range(1, T + 1), "before": range(T), "start": [t - t % chunk for t in range(T)]}
    for read, times in wanted.items():
        y, _ = titans(mlp, start, q, k, v, *gates, chunk, read=read)
        close(y, torch.stack([mlp(after(n), token) for n, token in zip(times, q, strict=True)]))


class Hybrid:
    """A random instance of what `mac`, `mag` and `mal` share."""

    def __init__(self) -> None:
        self.start, self.x, self.persistent = mlp_start(), draw(T, D), draw(2, D)
        self.attention = {name: draw(D, D) for name in "qkv"}
        self.memory = {name: draw(D, D) for name in "qkv"}
        self.to_gates = draw(D, 3)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eta, theta, alpha = torch.sigmoid(x @ self.to_gates).unbind(-1)
        return eta, theta, alpha

    @property
    def parts(self) -> tuple[Params, Tensor, Tensor, Params, Params]:
        return self.start, self.x, self.persistent, self.attention, self.memory

    def remember(self, x: Tensor) -> Tensor:
        return titans(mlp, self.start, *(x @ self.memory[n] for n in "qkv"), *self.gates(x))[0]

    def window(self, x: Tensor, window: int) -> Tensor:
        """Attention from the tokens behind the prefix, which `attention_with_persistent` keeps apart."""
        q, k, v = (x @ self.attention[n] for n in "qkv")
        return attention_with_persistent(q[2:], k[2:], v[2:], k[:2], v[:2], window)[0]


def test_mac_segment_by_segment() -> None:
    case = Hybrid()
    o, state = mac(mlp, *case.parts, case.gates, 3)
    weights, speed, wanted = case.start, None, []
    for s in case.x.split(3):
        h = mlp(weights, s @ case.memory["q"])
        seen = torch.cat([case.persistent, h, s])
        y = softmax_attention(*(seen @ case.attention[n] for n in "qkv"))[0][-len(s) :]
        keys, values = y @ case.memory["k"], y @ case.memory["v"]
        _, left = titans(mlp, weights, y, keys, values, *case.gates(y), momentum=speed)
        weights, speed = left["weights"], left["momentum"]
        wanted.append(y * mlp(weights, y))
    close(o, torch.cat(wanted))
    close(state["momentum"]["up"], left["momentum"]["up"])


def test_mac_is_causal_only_in_the_causal_reading() -> None:
    case = Hybrid()

    def leaks(**reading: str) -> bool:
        def run(x: Tensor) -> Tensor:
            return mac(mlp, case.start, x, case.persistent, case.attention, case.memory, case.gates, 3, **reading)[0]

        jacobian = torch.autograd.functional.jacobian(run, case.x).abs().sum((1, 3))
        return bool(torch.triu(jacobian, 1).any())

    assert leaks()
    assert leaks(context="causal")
    assert leaks(context="all", gate="earlier")
    assert not leaks(context="causal", gate="token")
    assert not leaks(context="causal", gate="earlier")


@pytest.mark.parametrize("window", [0, 1, 3])
def test_mag_and_mal_are_their_parts(window: int) -> None:
    case = Hybrid()
    tokens = torch.cat([case.persistent, case.x])
    gated, _ = mag(mlp, *case.parts, case.gates, window)
    close(gated, case.window(tokens, window) * case.remember(tokens)[2:])
    layered, _ = mal(mlp, *case.parts, case.gates, window)
    close(layered, case.window(case.remember(tokens), window))
    plain, _ = mag(mlp, *case.parts, case.gates, window, prefix=False)
    slid = softmax_attention(*(tokens @ case.attention[n] for n in "qkv"), window)[0]
    close(plain, (slid * case.remember(tokens))[2:])


def test_outer_gradients_by_finite_differences(pairs: Pairs) -> None:
    start, gates = mlp_start(), 0.2 + 0.3 * GATES
    leaves = [x.clone().requires_grad_() for x in (*pairs, start["up"], start["down"], gates)]

    def run(q: Tensor, k: Tensor, v: Tensor, up: Tensor, down: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
        weights, ones = {"up": up, "down": down}, torch.ones(D, dtype=torch.float64)
        return (
            titans(mlp, weights, q, k, v, gate, gate, gate, 3)[0],
            ttt(mlp, weights, q, k, v, gate, gate[:3], ones, 0 * ones, 3)[0],
        )

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
