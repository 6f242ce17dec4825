"""Self-modifying Titans (Nested Learning §8.1-8.2, eqs 76-93): three stages, from one adaptive memory to six."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu

from .nets import Net, Params, State, gradient, mix, residual_mlp, square_error

Squash = Callable[[Tensor], Tensor]
Erase = Literal["layers", "first", "none"]


def fixed_projections(
    net: Net, start: Params, x: Tensor, projections: Params, eta_fn: Squash, alpha_fn: Squash
) -> tuple[Tensor, State]:
    """Stage (a), eqs 76-78: fixed projections, one memory; W <- alpha W - eta grad 1/2 ||M(k) - v||^2, then y = M(q).

    x [T, d]; projections "q", "k", "v" [d, d] and "eta", "alpha" [d, n], whose products with x go through eta_fn and
    alpha_fn and must come out as scalars. Returns y [T, d] and {"M"}.
    """
    weights, outputs = start, []
    for token in x:
        q, k, v, eta, alpha = (token @ projections[name] for name in ("q", "k", "v", "eta", "alpha"))
        step = gradient(square_error(net, k, v), weights)
        weights = mix((alpha_fn(alpha), weights), (-eta_fn(eta), step))
        outputs.append(net(weights, q))
    return torch.stack(outputs), {"M": weights}


def adaptive_projections(
    nets: dict[str, Net],
    start: dict[str, Params],
    x: Tensor,
    eta_fn: Squash,
    alpha_fn: Squash,
    *,
    keys: Literal["own", "shared"] = "own",
) -> tuple[Tensor, State]:
    """Stage (b), eqs 79-82: every projection is a memory, and all learn to give the one shared value v_t.

    nets and start by name "q", "k", "v", "eta", "alpha", "M", all maps [d] -> [d]; eta_fn and alpha_fn make scalars of
    the answers of "eta" and "alpha". All answer x_t by the weights before the write; then every memory takes a step
    W <- alpha W - eta grad 1/2 ||P(key) - v_t||^2. The key of M is k_t, that of another memory its own answer to x_t,
    before eta_fn or alpha_fn (`keys="own"`, as eq 80 prints it) or k_t too (`"shared"`); keys and v_t are data of the
    objective. y_t = M_t(q_t), after the write. Returns y [T, d] and the weights by name.
    """
    memories, outputs = dict(start), []
    for token in x:
        answers = {name: nets[name](memories[name], token) for name in memories if name != "M"}
        eta, alpha = eta_fn(answers["eta"]), alpha_fn(answers["alpha"])
        for name in memories:
            key = answers["k"] if name == "M" or keys == "shared" else answers[name]
            step = gradient(square_error(nets[name], key, answers["v"]), memories[name])
            memories[name] = mix((alpha, memories[name]), (-eta, step))
        outputs.append(nets["M"](memories["M"], answers["q"]))
    return torch.stack(outputs), memories


def self_modifying_titans(
    start: dict[str, Params],
    q: Tensor,
    h: Tensor,
    z: Tensor,
    eta_fn: Squash,
    alpha_fn: Squash,
    chunk: int,
    unit_v: bool = True,
    *,
    memory_chunk: int | None = None,
    erase: Erase = "layers",
    detach_targets: bool = False,
) -> tuple[Tensor, State]:
    """Stage (c), eqs 83-91, and its chunk-wise form (eq 90): memories that generate their own keys, gates and targets.

    start holds "K", "V", "M" (residual MLPs: "up" [d, n], "down" [n, d]) and "Eta", "Alpha" (the same with a "head"
    [d, 1] behind); q, h, z [T, d] are the inputs of M, of K, Eta and Alpha, and of V. At token t

        k = unit(K(h)), v = unit(V(z)), eta = eta_fn(Eta(h)), alpha = alpha_fn(Alpha(h)), y = M(q),

    all by the weights at the start of the token's chunk; then every memory P, for each of its matrices W,

        W <- alpha W - eta key (key^T W) - eta grad_W 1/2 ||P(k) - P(v)||^2

    where P(v), its own answer to v, is data of the objective, `key` is the input of W in the pass P(k), and both passes
    and the gradient belong to the chunk's start, while alpha and the erasure act on the running weights.
    `unit_v=False` leaves v as V gives it. `memory_chunk`: M has a chunk of its own. `erase="first"`: only "up" is
    erased along its key; `"none"`: nothing is. `detach_targets`: no outer gradient through P(v).
    Returns y [T, d] (read, then write) and the final weights by name.
    """
    memories, anchors = dict(start), dict(start)
    outputs = []
    for t in range(len(q)):
        for name in memories:
            if t % (memory_chunk if memory_chunk and name == "M" else chunk) == 0:
                anchors[name] = memories[name]
        outputs.append(answer(anchors["M"], q[t]))
        k, v = unit(answer(anchors["K"], h[t])), answer(anchors["V"], z[t])
        v = unit(v) if unit_v else v
        eta, alpha = eta_fn(answer(anchors["Eta"], h[t])), alpha_fn(answer(anchors["Alpha"], h[t]))
        for name in memories:
            memories[name] = _rewrite(memories[name], anchors[name], k, v, eta, alpha, erase, detach_targets)
    return torch.stack(outputs), memories


def answer(params: Params, x: Tensor) -> Tensor:
    """x + gelu(x up) down, and where there is a head its scalar product with that."""
    body = residual_mlp(params, x)
    return (body @ params["head"])[0] if "head" in params else body


def inputs(params: Params, x: Tensor) -> Params:
    """What each matrix is multiplied by in the pass `answer(params, x)`."""
    keys = {"up": x, "down": gelu(x @ params["up"])}
    return {**keys, "head": residual_mlp(params, x)} if "head" in params else keys


def unit(x: Tensor) -> Tensor:
    """x / sqrt(sum x^2 + 1e-6)."""
    return x / torch.sqrt((x**2).sum() + 1e-6)


def _rewrite(
    running: Params,
    anchor: Params,
    k: Tensor,
    v: Tensor,
    eta: Tensor,
    alpha: Tensor,
    erase: Erase,
    detach_targets: bool,
) -> Params:
    target = answer(anchor, v).detach() if detach_targets else answer(anchor, v)
    step = gradient(square_error(answer, k, target), anchor)
    keys = inputs(anchor, k)
    erased = {"layers": list(keys), "first": ["up"], "none": []}[erase]
    written = {}
    for name, w in running.items():
        forgotten = torch.outer(keys[name], keys[name] @ w) if name in erased else torch.zeros_like(w)
        written[name] = alpha * w - eta * forgotten - eta * step[name]
    return written
