"""TNT (Li et al. 2025): one global memory with large chunks, and local memories that are reset at every shard."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .nets import Net, Params, Read, State, gradient, mix, square_error, visible


def tnt(
    net: Net,
    global_start: Params,
    local_starts: Sequence[Params],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    global_eta: Tensor,
    local_etas: Sequence[Tensor],
    global_chunk: int,
    local_chunks: Sequence[int],
    shard: int,
    *,
    global_read: Read = "start",
    local_read: Read = "after",
    project_queries: bool = False,
) -> tuple[Tensor, State]:
    """y_t = f(global, q_t) + sum_i f(local_i, q_t); every memory learns 1/2 ||f(k) - v||^2 by GD, without decay.

    q, k, v [T, d]; global_eta [T] and one [T] for each local memory. Gradients are taken at the start of the token's
    chunk: the global grid counts from the first token, a local grid from the last reset. A local memory goes back to
    its start before the first token of every shard. By default the global memory answers as it stood at its chunk's
    start and a local one after the token's own write. `project_queries`: a local memory is asked
    sum_s k_s (k_s . q_t) / ||k_s||^2 over the tokens s <= t of its chunk, instead of q_t.

    Returns y [T, d_out] and {"global", "local0", ..}, the running weights with every token written; "global_start" is
    the global memory at the start of the chunk that the next token belongs to.
    """
    wide = _run(net, global_start, q, k, v, global_eta, global_chunk, 0, global_read, False)
    y, state = wide[0], {"global": wide[1], "global_start": wide[2]}
    for i, (start, eta, chunk) in enumerate(zip(local_starts, local_etas, local_chunks, strict=True)):
        part, state[f"local{i}"], _ = _run(net, start, q, k, v, eta, chunk, shard, local_read, project_queries)
        y = y + part
    return y, state


def _run(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor,
    chunk: int,
    shard: int,
    read: Read,
    project: bool,
) -> tuple[Tensor, Params, Params]:
    """One memory, never reset if shard is 0; its answers, its weights and those at the next token's chunk start."""
    weights = anchor = start
    first = 0
    outputs = []
    for t in range(len(q)):
        place = t % shard if shard else t
        if place == 0:
            weights = start
        if place % chunk == 0:
            anchor, first = weights, t
        before = weights
        weights = mix((1.0, weights), (-eta[t], gradient(square_error(net, k[t], v[t]), anchor)))
        asked = _seen_part(k[first : t + 1], q[t]) if project else q[t]
        outputs.append(net(visible(read, anchor, before, weights), asked))
    following = place + 1
    return torch.stack(outputs), weights, weights if following % chunk == 0 else anchor


def _seen_part(keys: Tensor, q: Tensor) -> Tensor:
    return ((keys @ q / (keys**2).sum(-1))[:, None] * keys).sum(0)
