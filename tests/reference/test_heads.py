"""Heads are an axis like the batch, and the shapes that a rate may have, worked by hand (rules 8 and 15).

With l2 the gradient of a pair at w is outer(k, k @ w - v), with dot it is -outer(k, v).
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, put, run, run_with_weights


def two_heads(rate: str, shape: str) -> str:
    """Two heads of one number each, that decay by `keep` and learn with the given rate."""
    return f"""
    block Heads over k: [2], v: [2], beta: {shape} -> [2] {{
      memory M[2] = matrix(1) from zeros
      rate = {rate}
      learn M : k |> split(2) -> v |> split(2) minimizing l2 by gd(rate) every token
      return M(ones(2) |> split(2)) |> merge
    }}
    """


K, V = [[1, 1], [1, 2]], [[2, 4], [3, 1]]


@pytest.mark.parametrize("rate", ["beta", "beta |> split(2)", "sum(beta |> split(2))"])
def test_each_head_has_its_own_rate(rate: str) -> None:
    """A rate of shape [heads], of shape [heads, 1] or, per head, of shape [] is one number per head."""
    #  tick   rates      head 0                                head 1
    #  t0     1/2, 1/4   0 + 2 / 2 = 1                         0 + 4 / 4 = 1
    #  t1     1, 1/2     g = 1 - 3 = -2, 1 + 2 = 3             g = 2 (2 - 1) = 2, 1 - 1 = 0
    outs = run(two_heads(rate, "[2]"), {"k": K, "v": V, "beta": [[F(1, 2), F(1, 4)], [1, F(1, 2)]]})
    close(outs[0], [[1, 1], [3, 0]])


@pytest.mark.parametrize(("shape", "betas"), [("[]", [F(1, 2), 1]), ("[1]", [[F(1, 2)], [1]])])
def test_one_rate_for_all_heads(shape: str, betas: list[Any]) -> None:
    """A rate of shape [] or [1] without heads is the same for every head."""
    #  t0, rate 1/2: 1 and 2;   t1, rate 1: g = 1 - 3 = -2, 3;   g = 2 (4 - 1) = 6, 2 - 6 = -4
    outs = run(two_heads("beta", shape), {"k": K, "v": V, "beta": betas})
    close(outs[0], [[1, 2], [3, -4]])


def test_each_head_has_its_own_retention() -> None:
    """decay(keep) with one number per head, and erase with both."""
    text = """
    block Heads over k: [2], v: [2], keep: [2], rate: [2] -> [2], [2] {
      memory D[2], E[2] = matrix(1) from zeros
      a = k |> split(2)
      b = v |> split(2)
      learn D : a -> b minimizing dot retaining decay(keep) by gd(1) every token
      learn E : a -> b minimizing dot retaining erase(keep, rate) by gd(1) every token
      return D(ones(2) |> split(2)) |> merge, E(ones(2) |> split(2)) |> merge
    }
    """
    #  tick   products   keep      D                       rate      key^2   E = keep E - rate key^2 E + product
    #  t0     2, 4       1, 1      2, 4                    1, 1      1, 1    2, 4
    #  t1     3, 2       1/2, 2    1 + 3 = 4, 8 + 2 = 10   1/4, 1/2  1, 4    1 - 1/2 + 3 = 7/2,  8 - 8 + 2 = 2
    ports = {"k": K, "v": V, "keep": [[1, 1], [F(1, 2), 2]], "rate": [[1, 1], [F(1, 4), F(1, 2)]]}
    outs = run(text, ports)
    close(outs[0], [[2, 4], [4, 10]])
    close(outs[1], [[2, 4], [F(7, 2), 2]])


def test_heads_of_two_channels() -> None:
    """split cuts the channels into consecutive pieces; head i learns from piece i; merge puts them back."""
    text = """
    block Heads over k: [4], v: [4], q: [4] -> [4] {
      memory M[2] = matrix(2) from zeros
      learn M : k |> split(2) -> v |> split(2) minimizing dot by gd(1) every token
      return M(q |> split(2)) |> merge
    }
    """
    #  head 0: outer((1, 2), (3, 4)) = [[3, 4], [6, 8]]          q = (1, 1): (9, 12)
    #  head 1: outer((0, 1), (5, 7)) = [[0, 0], [5, 7]]          q = (9, 2): (10, 14)
    outs, weights = run_with_weights(text, {"k": [[1, 2, 0, 1]], "v": [[3, 4, 5, 7]], "q": [[1, 1, 9, 2]]})
    close(outs[0], [[9, 12, 10, 14]])
    close(weights["M.w"], [[[3, 4], [6, 8]], [[0, 0], [5, 7]]])


def test_functions_act_per_head() -> None:
    """A sum without an axis is the head's own; `tick` and numbers are the same for all."""
    text = """
    block Heads over x: [4] -> [4] {
      h = x |> split(2)
      return h * sum(h) + tick |> merge
    }
    """
    #  (1, 2) * 3 and (3, 4) * 7;   (1, 0) * 1 + 1 and (0, 2) * 2 + 1
    close(run(text, {"x": [[1, 2, 3, 4], [1, 0, 0, 2]]})[0], [[3, 6, 21, 28], [2, 1, 1, 5]])


def test_states_may_have_heads() -> None:
    """One running value per head."""
    text = """
    block Heads over x: [2] -> [2] {
      state s[2]: [1] = 1
      h = x |> split(2)
      s <- s * h
      return s |> merge
    }
    """
    close(run(text, {"x": [[2, 3], [5, 1], [1, 4]]})[0], [[2, 3], [10, 3], [10, 12]])


def test_momentum_has_heads() -> None:
    """The optimizer's state has the shape of what it serves, heads and all; beta is per head here."""
    text = """
    block Heads over v: [2], beta: [2] -> [2] {
      memory M[2] = matrix(1) from zeros
      learn M : ones(2) |> split(2) -> v |> split(2) minimizing dot by momentum(1, beta) every token
      return M(ones(2) |> split(2)) |> merge
    }
    """
    #  head 0: s = 1, then 1/2 + 3 = 7/2, w = 9/2       head 1: s = 2, then 0 + 4 = 4, w = 6
    outs = run(text, {"v": [[1, 2], [3, 4]], "beta": [[1, 1], [F(1, 2), 0]]})
    close(outs[0], [[1, 2], [F(9, 2), 6]])


def shaped(shape: str) -> str:
    """A matrix of two channels, without heads, with a rate of the given shape."""
    return f"""
    block Rates over k: [2], v: [2], rate: {shape} -> [2] {{
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot by gd(rate) every token
      return M(k)
    }}
    """


#  -g = outer((1, 2), (3, 5)) = [[3, 5], [6, 10]]
@pytest.mark.parametrize(
    ("shape", "rate", "moved"),
    [
        ("[]", F(1, 2), [[F(3, 2), F(5, 2)], [3, 5]]),
        ("[1]", [F(1, 2)], [[F(3, 2), F(5, 2)], [3, 5]]),
        ("[2]", [1, F(1, 5)], [[3, 1], [6, 2]]),  # on the output axis: the columns
        ("[2, 1]", [[1], [F(1, 2)]], [[3, 5], [3, 5]]),  # on the input axis: the rows
    ],
)
def test_shapes_of_a_rate(shape: str, rate: Any, moved: list[list[Any]]) -> None:
    """[] and [1] are one number, [n] goes along the output axis, [n, 1] along the input axis."""
    _, weights = run_with_weights(shaped(shape), {"k": [[1, 2]], "v": [[3, 5]], "rate": [rate]})
    close(weights["M.w"], moved)


def test_a_gate_per_channel_in_a_retention() -> None:
    """decay(keep) with keep on the output axis and on the input axis (as GLA has it)."""
    text = """
    block Rates over k: [2], v: [2], a: [2], b: [2, 1] -> [2], [2] {
      memory Out, In = matrix(2) from zeros
      learn Out : k -> v minimizing dot retaining decay(a) by gd(1) every token
      learn In  : k -> v minimizing dot retaining decay(b) by gd(1) every token
      return Out(k), In(k)
    }
    """
    #  P0 = outer((1, 1), (1, 2)) = [[1, 2], [1, 2]]        P1 = outer((1, 0), (1, 1)) = [[1, 1], [0, 0]]
    #  Out: [[1/2, 6], [1/2, 6]] + P1       In: [[1/2, 1], [3, 6]] + P1
    ports = {
        "k": [[1, 1], [1, 0]],
        "v": [[1, 2], [1, 1]],
        "a": [[1, 1], [F(1, 2), 3]],
        "b": [[[1], [1]], [[F(1, 2)], [3]]],
    }
    _, weights = run_with_weights(text, ports)
    close(weights["Out.w"], [[F(3, 2), 7], [F(1, 2), 6]])
    close(weights["In.w"], [[F(3, 2), 2], [3, 6]])


def test_a_learned_start_per_head_learns_per_head() -> None:
    """Starts 3 and 5, each towards its own value by its own rate."""
    text = two_heads("beta", "[2]").replace(" from zeros", "")
    machine = interpreter(text)
    put(machine, M__w=[[[3]], [[5]]])
    outs, _ = machine.run(inputs_of({"k": [[1, 1]], "v": [[1, 1]], "beta": [[F(1, 2), F(1, 4)]]}))
    #  3 - 2 / 2 = 2;   5 - 4 / 4 = 4
    close(outs[0][0], [[2, 4]])
