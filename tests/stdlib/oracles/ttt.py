"""TTT-Linear and TTT-MLP (Sun et al. 2024), with the semantics of the official code."""

import torch
from torch import Tensor

from .nets import Net, Objective, Params, State, gradient, layer_norm, mix, zeros_like

EPS = 1e-6


def ttt(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    share: Tensor,
    norm_gain: Tensor,
    norm_bias: Tensor,
    chunk: int,
) -> tuple[Tensor, State]:
    """One head of TTT: write, then read, with the gradients of a mini-batch taken at its start.

    q, k, v [T, d]; rate [T] (the token's learned step, times base_lr / head_dim); share [chunk], the factors
    max(0, 1/(i+1) + learned) of the places in a mini-batch; norm_gain, norm_bias [d] of the LN around the model.

    Inside a mini-batch W_t = W_start - share[i] sum_{s <= t} rate[s] grad_s(W_start): a later token's share rescales
    the earlier writes too, and the next mini-batch starts from the last token's weights.
    Objective 1/2 ||LN(net(k)) - (v - k)||^2, output q + LN(net(q)). Returns y [T, d] and {"weights"}.
    """
    weights = anchor = start
    total = zeros_like(start)
    outputs = []
    for t in range(len(q)):
        place = t % chunk
        if place == 0:
            anchor, total = weights, zeros_like(start)
        step = gradient(reconstruction(net, k[t], v[t], norm_gain, norm_bias), anchor)
        total = mix((1.0, total), (rate[t], step))
        weights = mix((1.0, anchor), (-share[place], total))
        outputs.append(q[t] + layer_norm(net(weights, q[t]), norm_gain, norm_bias, EPS))
    return torch.stack(outputs), {"weights": weights}


def reconstruction(net: Net, k: Tensor, v: Tensor, gain: Tensor, bias: Tensor) -> Objective:
    """1/2 ||LN(net(k)) - (v - k)||^2 as a function of the weights."""
    return lambda params: 0.5 * ((layer_norm(net(params, k), gain, bias, EPS) - (v - k)) ** 2).sum()
