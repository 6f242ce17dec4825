"""Moneta, Yaad and Memora (MIRAS, Behrouz et al. 2025): three biases and retentions of one learner.

Each keeps sums A_t = alpha_t A_{t-1} - eta_t grad(W) and weights W_t = link(A_t), matrix by matrix.
Gates are [T]; a gate [T, out] scales the columns of every matrix, for memories whose matrices have `out` columns.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .nets import Net, Objective, Params, Read, State, gradient, mix, square_error, visible

Link = Callable[[Tensor], Tensor]
Bias = Callable[[int, Params], Params]
LinkEvery = Literal["token", "chunk"]


def moneta(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    eta: Tensor,
    p: float = 3,
    q_norm: float = 4,
    chunk: int = 1,
    *,
    read: Read = "after",
    link_every: LinkEvery = "token",
    first: Params | None = None,
    smooth: float | None = None,
) -> tuple[Tensor, State]:
    """l_p bias and l_q retention: W_t = A_t / ||A_t||_q^(q-2), the norm over a whole matrix (MIRAS eqs 24-25).

    q, k, v [T, d]. The objective is sum_j |M(k) - v|_j^p without a factor 1/p, so its gradient carries p (eq 11).
    `start` is A_0 and W_0 = link(A_0), unless `first` gives W_0. `smooth`: sign(e) |e|^(p-1) becomes
    tanh(smooth e) (e^2 + 1e-6)^((p-1)/2). `link_every="chunk"`: weights move at chunk ends only, and reads see the
    last ones. Returns y [T, d_out] and {"sums", "weights"}.
    """

    def bias(t: int, at: Params) -> Params:
        if smooth is None:
            return gradient(lambda params: ((net(params, k[t]) - v[t]).abs() ** p).sum(), at)
        error = net(at, k[t]) - v[t]
        slope = p * torch.tanh(smooth * error) * (error**2 + 1e-6) ** ((p - 1) / 2)
        return gradient(lambda params: net(params, k[t]) @ slope, at)

    def link(sums: Tensor) -> Tensor:
        return sums / (sums.abs() ** q_norm).sum() ** ((q_norm - 2) / q_norm)

    return _learn(net, start, link, bias, q, alpha, eta, chunk, read, link_every, first)


def yaad(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    eta: Tensor,
    delta: Tensor,
    chunk: int = 1,
    *,
    read: Read = "after",
    huber: Literal["norm", "l1", "coordinate"] = "norm",
) -> tuple[Tensor, State]:
    """Huber bias and plain decay (MIRAS eq 26); delta [T] is the token's threshold.

    While ||e|| <= delta, e = M(k) - v, the gradient is that of 1/2 ||e||^2; beyond it delta times that of ||e||_2
    (`huber="norm"`, eq 15, continuous) or of ||e||_1 (`"l1"`, the letter of eq 26). `"coordinate"` switches each
    coordinate on its own |e_j| (eq 14). Returns y [T, d_out] and {"sums", "weights"}, which are equal.
    """

    def bias(t: int, at: Params) -> Params:
        error = net(at, k[t]) - v[t]
        if huber != "coordinate" and error.norm() <= delta[t]:
            return gradient(square_error(net, k[t], v[t]), at)
        return gradient(_beyond(net, k[t], v[t], delta[t], huber), at)

    return _learn(net, start, lambda sums: sums, bias, q, alpha, eta, chunk, read, "token", None)


def memora(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    eta: Tensor,
    chunk: int = 1,
    *,
    axis: Literal["input", "output"] = "input",
    read: Read = "after",
    link_every: LinkEvery = "token",
) -> tuple[Tensor, State]:
    """KL retention on the simplex: W_t = softmax(alpha_t log W_{t-1} - eta_t grad 1/2 ||M(k) - v||^2) (MIRAS eq 27).

    `start` holds positive matrices whose slices sum to one: along the input axis (each column of W [in, out], the
    weights of one output unit) or the output axis. The sums are log W up to a constant per slice, which the softmax
    does not see. `link_every` as in `moneta`. Returns y [T, d_out] and {"sums", "weights"}.
    """
    dim = {"input": 0, "output": 1}[axis]

    def bias(t: int, at: Params) -> Params:
        return gradient(square_error(net, k[t], v[t]), at)

    logs = {name: w.log() for name, w in start.items()}
    return _learn(net, logs, lambda sums: sums.softmax(dim), bias, q, alpha, eta, chunk, read, link_every, start)


def _learn(
    net: Net,
    start: Params,
    link: Link,
    bias: Bias,
    q: Tensor,
    alpha: Tensor,
    eta: Tensor,
    chunk: int,
    read: Read,
    link_every: LinkEvery,
    first: Params | None,
) -> tuple[Tensor, State]:
    sums = start
    weights = anchor = _linked(link, start) if first is None else first
    outputs = []
    for t in range(len(q)):
        if t % chunk == 0:
            anchor = weights
        before = weights
        sums = mix((alpha[t], sums), (-eta[t], bias(t, anchor)))
        if link_every == "token" or (t + 1) % chunk == 0:
            weights = _linked(link, sums)
        outputs.append(net(visible(read, anchor, before, weights), q[t]))
    return torch.stack(outputs), {"sums": sums, "weights": weights}


def _linked(link: Link, sums: Params) -> Params:
    return {name: link(a) for name, a in sums.items()}


def _beyond(net: Net, k: Tensor, v: Tensor, delta: Tensor, huber: str) -> Objective:
    def objective(params: Params) -> Tensor:
        error = net(params, k) - v
        if huber == "coordinate":
            size = error.abs()
            return torch.where(size <= delta, 0.5 * error**2, delta * size).sum()
        return delta * (error.abs().sum() if huber == "l1" else error.norm())

    return objective
