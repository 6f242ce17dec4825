"""Optimizers that are more than a formula: memories and slow states inside, branches on the weight's form, the key,
the weight, the count of updates; worked by hand (rules 1, 7, 13 and 16).

Where the objective is dot with key 1, the gradient is -v: streams of values are streams of gradients, sign turned.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
import torch
from reference.worked import close, inputs_of, interpreter, numbers, put, run, run_with_weights, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def gradients(values: list[Any]) -> dict[str, list[Any]]:
    """Values whose dot gradients, with key 1, are the given ones."""
    return {"v": column([-value for value in values])}


def in_pieces(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The first output of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text, name="Served")
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return numbers(first[0][0]) + numbers(second[0][0])


def served(optimizer: str, by: str, every: str = "every token") -> str:
    """An optimizer and a memory of one number that it serves, fed gradients -v."""
    return f"""
    {optimizer}
    block Served over v: [1] -> [1] {{
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by {by} {every}
      return M(ones(1))
    }}
    """


DEEP = """
optimizer deep(lr, keep, rate) over g: [n, m] {
  memory b = matrix(m) from zeros
  learn b : g -> 1 minimizing dot retaining decay(keep) by gd(rate) every update
  return -lr * b(g)
}
"""


def test_a_momentum_that_is_a_memory() -> None:
    """b learns that the value of every gradient is 1: b = keep b + rate g, read after its write."""
    #  update   g     b = b / 2 + g         u = -g b / 2          w
    #  0        1     1                     -1/2                  -1/2
    #  1        2     1/2 + 2 = 5/2         -5/2                  -3
    #  2        1     5/4 + 1 = 9/4         -9/8                  -33/8
    text = served(DEEP, "deep(0.5, 0.5, 1)")
    expected = column([F(-1, 2), -3, F(-33, 8)])
    close(run(text, gradients([1, 2, 1]), name="Served")[0], expected)
    for cut in (1, 2):
        close(in_pieces(text, gradients([1, 2, 1]), cut), expected)


def test_a_momentum_that_is_a_memory_goes_row_by_row() -> None:
    """Every row of g is a key with value 1, so each number in row i of b gains the sum of column i of g."""
    text = (
        DEEP
        + """
    block Served over k: [2], v: [2] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot by deep(1 / 3, 1, 1 / 10) every token
      return M(k)
    }
    """
    )
    #  g = -outer((1, 2), (-1, -3)) = [[1, 3], [2, 6]], column sums 3 and 9
    #  b = [[3, 3], [9, 9]] / 10;   g @ b = [[30, 30], [60, 60]] / 10;   u = -that / 3
    _, weights = run_with_weights(text, {"k": [[1, 2]], "v": [[-1, -3]]}, name="Served")
    close(weights["M.w"], [[-1, -1], [-2, -2]])
    #  next g = -outer((1, 0), (-2, 1)) = [[2, -1], [0, 0]], column sums 2 and -1
    #  b = [[5, 5], [8, 8]] / 10;   g @ b = [[10 - 8, 10 - 8], [0, 0]] / 10;   u = -[[2, 2], [0, 0]] / 30
    _, weights = run_with_weights(text, {"k": [[1, 2], [1, 0]], "v": [[-1, -3], [-2, 1]]}, name="Served")
    close(weights["M.w"], [[-1 - F(1, 15), -1 - F(1, 15)], [-2, -2]])


def test_each_sequence_has_its_own_nested_memory() -> None:
    """An optimizer's memory belongs to the memory it serves, and that has one state per sequence."""
    text = served(DEEP, "deep(0.5, 0.5, 1)")
    v = tensor([column([-1, -2, -1]), column([-2, 0, -1])])
    outs, _ = interpreter(text, name="Served").run({"v": v})
    #  sequence 1: g = 2, 0, 1;  b = 2, 1, 1/2 + 1 = 3/2;  u = -2, 0, -3/4
    close(outs[0], [column([F(-1, 2), -3, F(-33, 8)]), column([-2, -2, F(-11, 4)])])


def test_a_nested_memory_with_its_own_optimizer_and_pace() -> None:
    """b learns every 2 updates, by momentum: levels all the way down."""
    deeper = """
    optimizer deeper(lr) over g: [n, m] {
      memory b = matrix(m) from zeros
      learn b : g -> 1 minimizing dot by momentum(1, 0.5) every 2 updates
      return -lr * b(g)
    }
    """
    #  update   g    window    s = s / 2 + sum    b     u = -g b    w
    #  0        1    open                         0     0           0
    #  1        2    1 + 2     3                  3     -6          -6
    #  2        1    open                         3     -3          -9
    #  3        1    1 + 1     3/2 + 2 = 7/2      13/2  -13/2       -31/2
    text = served(deeper, "deeper(1)")
    expected = column([0, -6, -9, F(-31, 2)])
    close(run(text, gradients([1, 2, 1, 1]), name="Served")[0], expected)
    for cut in (1, 2, 3):
        close(in_pieces(text, gradients([1, 2, 1, 1]), cut), expected)


def test_a_learned_start_inside_an_optimizer() -> None:
    """Without `from zeros` the nested memory's start is a parameter, here 2 by its definition."""
    learned = """
    net two over x: [m] -> [m] {
      param w: [m, m] = 2
      return x @ w
    }
    optimizer deep(lr) over g: [n, m] {
      memory b = two
      learn b : g -> 1 minimizing dot retaining decay(0.5) by gd(1) every update
      return -lr * b(g)
    }
    """
    #  g = 1: b = 1 + 1 = 2, u = -2;   g = 2: b = 1 + 2 = 3, u = -6
    machine = interpreter(served(learned, "deep(1)"), name="Served")
    assert len(machine.parameters) == 1
    outs, _ = machine.run(inputs_of(gradients([1, 2])))
    close(outs[0][0], column([-2, -8]))


def test_a_nested_memory_with_heads() -> None:
    """Each half of a gradient's columns has a memory of its own, with a start of its own."""
    text = """
    net one over x: [m] -> [m] {
      param w: [m, m] = 1
      return x @ w
    }
    optimizer halves(lr) over g: [n, m] {
      memory b[2] = one
      learn b : split(g, 2) -> 1 minimizing dot by gd(1) every update
      return -lr * merge(b(split(g, 2)))
    }
    block Served over k: [2], v: [2] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot by halves(1 / 2) every token
      return M(k)
    }
    """
    #  g = -outer((1, 2), (-1, -3)) = [[1, 3], [2, 6]], column sums 3 and 9
    #  b = 1 + 3 and 1 + 9;   u = -[[4, 30], [8, 60]] / 2
    machine = interpreter(text, name="Served")
    assert [tuple(p.shape) for p in machine.parameters.values()] == [(2, 1, 1)]
    _, state = machine.run(inputs_of({"k": [[1, 2]], "v": [[-1, -3]]}))
    close(machine.weights(state)["M.w"], [[-2, -15], [-4, -30]])


TWO_PACES = """
optimizer two_paces(lr) over g {
  state slow = 0
  u = -lr * (g + slow)
  slow <- slow + window_sum(g) every 2 updates
  return u
}
"""


def test_a_slow_state_below_its_reader() -> None:
    """slow is written at updates 1 and 3, after u has been made from the old one."""
    #  update   g    slow before    u      w        slow after
    #  0        1    0              -1     -1       0
    #  1        2    0              -2     -3       3
    #  2        3    3              -6     -9       3
    #  3        4    3              -7     -16      10
    #  4        5    10             -15    -31      10
    text = served(TWO_PACES, "two_paces(1)")
    expected = column([-1, -3, -9, -16, -31])
    close(run(text, gradients([1, 2, 3, 4, 5]), name="Served")[0], expected)
    for cut in (1, 2, 3, 4):
        close(in_pieces(text, gradients([1, 2, 3, 4, 5]), cut), expected)


def test_updates_are_writes_not_ticks() -> None:
    """Under `every 2 tokens` an update comes every second tick: the same numbers at half the pace."""
    text = served(TWO_PACES, "two_paces(1)", "every 2 tokens")
    ports = gradients([F(1, 2), F(1, 2), 1, 1, 3, 0, 0, 4, 5, 0])
    close(run(text, ports, name="Served")[0], column([0, -1, -1, -3, -3, -9, -9, -16, -16, -31]))


def test_updates_under_a_condition_are_those_made() -> None:
    """A false tick makes no update: the window of updates does not move."""
    text = (
        """
    block Served over v: [1], gate: [] -> [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by two_paces(1) every token when gate > 0
      return M(ones(1))
    }
    """
        + TWO_PACES
    )
    ports = gradients([1, 9, 2, 9, 3]) | {"gate": [1, 0, 1, 0, 1]}
    close(run(text, ports, name="Served")[0], column([-1, -1, -3, -3, -9]))


def test_a_branch_on_the_rank() -> None:
    """A gain has one axis and moves ten times as far as the matrix: the optimizer sees one weight at a time."""
    text = """
    net scaled over x: [1] -> [1] {
      param w: [1, 1] = 1
      param gain: [1] = 1
      return gain * (x @ w)
    }
    optimizer by_rank(lr) over g {
      u = -lr * g
      if rank(g) < 2 {
        u = 10 * u
      }
      return u
    }
    block Served over k: [1], v: [1] -> [1] {
      memory S = scaled
      learn S : k -> v minimizing l2 by by_rank(0.01) every token
      return S(ones(1))
    }
    """
    #  y = gain k w = 2, r = 2 - 5 = -3;   gradients: w: gain k r = -6, gain: k w r = -6
    outs, weights = run_with_weights(text, {"k": [[2]], "v": [[5]]}, name="Served")
    close(weights["S.w"], [[1 + F(6, 100)]])
    close(weights["S.gain"], [1 + F(60, 100)])
    close(outs[0], [[F(106, 100) * F(160, 100)]])


def test_shape_and_rank_are_numbers() -> None:
    """Of a matrix of 3 rows and 2 columns: 3, 2 and 2."""
    text = """
    optimizer sized over g = -(shape(g, 0) + 10 * shape(g, 1) + 100 * rank(g)) * g
    block Served over k: [3], v: [2] -> [2] {
      memory M = matrix(3, out = 2) from zeros
      learn M : k -> v minimizing dot by sized every token
      return M(k)
    }
    """
    outs = run(text, {"k": [[1, 0, 0]], "v": [[1, 2]]}, name="Served")
    close(outs[0], [[223, 446]])


def test_the_total_norm_spans_all_weights_of_the_learn() -> None:
    """A matrix with gradient 3 and a bias with gradient 4: the norm is 5."""
    text = """
    optimizer normed(lr) over g = -lr * g / total_norm(g)
    block Served over k: [1], v: [1] -> [1] {
      memory L = linear_bias(1) from zeros
      learn L : k -> v minimizing l2 by normed(1) every token
      return L(ones(1))
    }
    """
    #  k = 3/4, r = 0 + 4 = 4:  3 and 4
    outs, weights = run_with_weights(text, {"k": [[F(3, 4)]], "v": [[-4]]}, name="Served")
    close(weights["L.w"], [[F(-3, 5)]])
    close(weights["L.b"], [[F(-4, 5)]])
    close(outs[0], [[F(-7, 5)]])


def test_an_optimizer_that_reads_weight_and_key() -> None:
    """Delta gradient descent by its proximal step: rate = lr / (1 + lr key^2), u = -rate (key key w + g)."""
    text = """
    block Served over k: [1], v: [1] -> [1] {
      memory M = matrix(1)
      learn M : k -> v minimizing dot by dgd(1) every token
      return M(ones(1))
    }
    """
    #  k = 1: rate = 1/2;  u = -1/2 (6 - 2) = -2;  w = 4        k = 2: rate = 1/5;  u = -1/5 (16 - 6) = -2;  w = 2
    machine = interpreter(text)
    put(machine, M__w=[[6]])
    outs, _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([2, 3])}))
    close(outs[0][0], column([4, 2]))


def test_a_bias_has_key_one() -> None:
    """A matrix erases by its input and a bias by 1: w = w - rate key^2 w + u."""
    text = """
    block Served over k: [1], v: [1] -> [1] {
      memory L = linear_bias(1)
      learn L : k -> v minimizing dot retaining erase(1, 0.25) by gd(1) every token
      return L(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, L__w=[[4]], L__b=[[4]])
    #  k = 3, v = 2:  w = 4 - 9/4 * 4 + 6 = 1;   b = 4 - 1/4 * 4 + 2 = 5
    outs, state = machine.run(inputs_of({"k": [[3]], "v": [[2]]}))
    close(machine.weights(state)["L.w"], [[1]])
    close(machine.weights(state)["L.b"], [[5]])
    close(outs[0][0], [[6]])


SCHEDULED = "optimizer scheduled(lr) over g = -lr / (tick + 1) * g"


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("every token", [-6, -9, -11, F(-25, 2)]),  # 6, 6/2, 6/3, 6/4
        ("every 2 tokens", [0, -12, -12, -18]),  # 12, 12/2
    ],
)
def test_tick_in_an_optimizer_counts_updates(every: str, expected: list[Any]) -> None:
    text = served(SCHEDULED, "scheduled(1)", every)
    close(run(text, gradients([6, 6, 6, 6]), name="Served")[0], column(expected))
    for cut in (1, 2, 3):
        close(in_pieces(text, gradients([6, 6, 6, 6]), cut), column(expected))


def test_tick_in_a_rate_counts_tokens() -> None:
    """The argument of an optimizer is a stream of the block, whose clock is the token."""
    text = served("", "gd(1 / (tick + 1))")
    close(run(text, gradients([6, 6, 6]))[0], column([-6, -9, -11]))


def test_tick_under_a_condition_counts_updates_made() -> None:
    """Per sequence: the first has made one update before tick 2, the second two."""
    text = (
        SCHEDULED
        + """
    block Served over v: [1], gate: [] -> [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by scheduled(1) every token when gate > 0
      return M(ones(1))
    }
    """
    )
    v = tensor([column([-6, -6, -6])] * 2)
    outs, _ = interpreter(text, name="Served").run({"v": v, "gate": tensor([[1, 0, 1], [1, 1, 1]])})
    close(outs[0], [column([-6, -6, -9]), column([-6, -9, -11])])


def test_an_optimizers_update_is_made_per_weight() -> None:
    """Two matrices of one memory, two momenta: the second one's gradients are twice the first one's."""
    text = """
    net pair over x: [1] -> [1] {
      param a: [1, 1] = 0
      param b: [1, 1] = 0
      return x @ a + 2 * x @ b
    }
    block Served over v: [1] -> [1] {
      memory P = pair
      learn P : ones(1) -> v minimizing dot by momentum(1, 0.5) every token
      return P(ones(1))
    }
    """
    #  a: s = 1, 1/2 + 2 = 5/2, w = 7/2        b: twice that, 7
    _, weights = run_with_weights(text, {"v": column([1, 2])}, name="Served")
    close(weights["P.a"], [[F(7, 2)]])
    close(weights["P.b"], [[7]])


def test_a_memory_inside_may_start_from_its_start() -> None:
    """The rule reads b before it learns: its first update is half of what the learned start says."""
    text = served(
        """
        optimizer deep(lr) over g: [n, m] {
          memory b = matrix(m) from start / 2
          u = b(g)
          learn b : g -> 1 minimizing dot by gd(0) every update
          return -lr * u
        }
        """,
        "deep(1)",
    )
    machine = interpreter(text, name="Served")
    [start] = [value for name, value in machine.parameters.items() if name.endswith("b.w")]
    with torch.no_grad():
        start.fill_(6)
    [outs], _ = machine.run(inputs_of(gradients([2])))
    assert numbers(outs[0]) == [[-6.0]]
