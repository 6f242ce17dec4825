"""Titans (Behrouz et al. 2025): the long-term memory module, and its three combinations with attention."""

from collections.abc import Callable

import torch
from torch import Tensor

from .nets import Net, Params, Read, State, gradient, mix, square_error, visible, zeros_like

Gates = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
Combine = Callable[[Tensor, Tensor], Tensor]


def titans(
    net: Net,
    start: Params,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor,
    theta: Tensor,
    alpha: Tensor,
    chunk: int = 1,
    *,
    read: Read = "after",
    momentum: Params | None = None,
) -> tuple[Tensor, State]:
    """The long-term memory module: S_t = eta_t S_{t-1} - theta_t grad, M_t = (1 - alpha_t) M_{t-1} + S_t (Titans §3.1).

    q, k, v [T, d]; eta (surprise decay), theta (step), alpha (forgetting) [T]. The objective is 1/2 ||M(k) - v||^2:
    the paper's ||.||^2 has twice the gradient, a factor that theta absorbs. Gradients are taken at the state as it
    stood at the start of the token's chunk (eq 16); `chunk=1` is the plain rule. `read` says which weights answer q;
    `momentum` is S before the first token, zero if not given. Returns y [T, d_out] and {"weights", "momentum"}.
    """
    weights = anchor = start
    surprise = zeros_like(start) if momentum is None else momentum
    outputs = []
    for t in range(len(q)):
        if t % chunk == 0:
            anchor = weights
        before = weights
        step = gradient(square_error(net, k[t], v[t]), anchor)
        surprise = mix((eta[t], surprise), (-theta[t], step))
        weights = mix((1 - alpha[t], weights), (1.0, surprise))
        outputs.append(net(visible(read, anchor, before, weights), q[t]))
    return torch.stack(outputs), {"weights": weights, "momentum": surprise}


def mac(
    net: Net,
    start: Params,
    x: Tensor,
    persistent: Tensor,
    attention: Params,
    memory: Params,
    gates: Gates,
    segment: int,
    chunk: int = 1,
    *,
    context: str = "all",
    gate: str = "segment",
    combine: Combine = torch.mul,
) -> tuple[Tensor, State]:
    """Memory as context (Titans §4.1), one segment S of `segment` tokens at a time; the last may be shorter.

    x [T, d]; persistent [N, d]; attention and memory hold projections "q", "k", "v" [d, d]; gates maps memory inputs
    [n, d] to eta, theta, alpha [n].

    1. h = M(S memory.q) by the weights that the earlier segments left, without a write.
    2. y = attention over [persistent, h, S], at the positions of S; the tokens of S see each other causally.
       `context="all"`: every token sees the whole of h, as printed, though h_j depends on the later token j;
       `"causal"`: token i sees h_1 .. h_i.
    3. The memory learns from y in order (keys y memory.k, values y memory.v, gates(y)), momentum carried over
       segments and the chunk grid counted from the segment's first token.
    4. o = combine(y, M(y)), M read directly at y. `gate="segment"`: the weights after the whole segment, as printed;
       `"token"`: those after the token's own write (causal); `"earlier"`: those before the segment.

    Returns o [T, d] and {"weights", "momentum"}.
    """
    state: State = {"weights": start, "momentum": zeros_like(start)}
    outputs = []
    for s in (x[i : i + segment] for i in range(0, len(x), segment)):
        earlier = state["weights"]
        h = _answers(net, earlier, s @ memory["q"])
        y = _attend(s, torch.cat([persistent, h, s]), attention, _segment_mask(len(persistent), len(s), context))
        keys, values = y @ memory["k"], y @ memory["v"]
        own, state = titans(net, earlier, y, keys, values, *gates(y), chunk, momentum=state["momentum"])
        answers = {
            "segment": _answers(net, state["weights"], y),
            "token": own,
            "earlier": _answers(net, earlier, y),
        }
        outputs.append(combine(y, answers[gate]))
    return torch.cat(outputs), state


def mag(
    net: Net,
    start: Params,
    x: Tensor,
    persistent: Tensor,
    attention: Params,
    memory: Params,
    gates: Gates,
    window: int = 0,
    chunk: int = 1,
    *,
    prefix: bool = True,
    combine: Combine = torch.mul,
) -> tuple[Tensor, State]:
    """Memory as gate (Titans §4.2): o = combine(y, M(x~)), y = sliding-window attention over x~ = [persistent, x].

    Arguments as in `mac`. The memory (the plain module, write then read) runs over x~ too, so it learns the persistent
    tokens first; their outputs are dropped. `window` counts the token itself, 0 is full causal attention;
    `prefix`: every token sees all persistent tokens, beside the window. Returns o [T, d] and {"weights", "momentum"}.
    """
    tokens = torch.cat([persistent, x])
    mask = _window_mask(len(tokens), len(persistent) if prefix else 0, window)
    y = _attend(tokens, tokens, attention, mask)
    answers, state = _remember(net, start, tokens, memory, gates, chunk)
    return combine(y, answers)[len(persistent) :], state


def mal(
    net: Net,
    start: Params,
    x: Tensor,
    persistent: Tensor,
    attention: Params,
    memory: Params,
    gates: Gates,
    window: int = 0,
    chunk: int = 1,
    *,
    prefix: bool = True,
) -> tuple[Tensor, State]:
    """Memory as layer (Titans §4.3): sliding-window attention over the memory's answers to [persistent, x].

    Arguments as in `mag`; the prefix is the answers to the persistent tokens. Returns o [T, d] and the memory's state.
    """
    tokens = torch.cat([persistent, x])
    answers, state = _remember(net, start, tokens, memory, gates, chunk)
    mask = _window_mask(len(tokens), len(persistent) if prefix else 0, window)
    return _attend(answers, answers, attention, mask)[len(persistent) :], state


def _remember(net: Net, start: Params, x: Tensor, memory: Params, gates: Gates, chunk: int) -> tuple[Tensor, State]:
    return titans(net, start, x @ memory["q"], x @ memory["k"], x @ memory["v"], *gates(x), chunk)


def _answers(net: Net, weights: Params, x: Tensor) -> Tensor:
    return torch.stack([net(weights, token) for token in x])


def _attend(x: Tensor, context: Tensor, projections: Params, mask: Tensor) -> Tensor:
    """Softmax attention of x [n, d] over context [m, d]; mask [n, m] is true where a token may look."""
    q, k, v = x @ projections["q"], context @ projections["k"], context @ projections["v"]
    scores = (q @ k.T / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1) @ v


def _segment_mask(persistent: int, length: int, context: str) -> Tensor:
    causal = torch.ones(length, length).tril().bool()
    everything = torch.ones(length, persistent + length).bool()
    memory = {"all": everything[:, persistent:], "causal": causal}[context]
    return torch.cat([everything[:, :persistent], memory, causal], dim=1)


def _window_mask(length: int, prefix: int, window: int) -> Tensor:
    place = torch.arange(length)
    distance = place[:, None] - place[None, :]
    near = (distance < window) if window else torch.ones(length, length).bool()
    return (distance >= 0) & (near | (place[None, :] < prefix))
