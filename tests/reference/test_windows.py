"""Windows: `every N tokens`, the aggregates, `times` and `weighted`, worked by hand (rules 3, 9 and 11).

Most memories here are one number w. With l2 the gradient of a pair is g = k (k w - v), with dot it is g = -k v.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

from reference.worked import close, inputs_of, interpreter, numbers, run, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def columns(**ports: list[Any]) -> dict[str, list[list[Any]]]:
    """Port name -> stream of shape [1]."""
    return {name: column(values) for name, values in ports.items()}


def run_in_two(text: str, ports: dict[str, list[list[Any]]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


# A read above the learn (before this tick's write) and one below it (after), both at q = 1.
PAIRS = """
block Windowed over k: [1], v: [1] -> [1], [1] {
  memory M = matrix(1) from zeros
  above = M(ones(1))
  learn M : k -> v minimizing l2 by gd(0.5) every 2 tokens
  below = M(ones(1))
  return above, below
}
"""

KEYS = [1, 2, 1, 1, 3, 1, 2]
VALUES = [2, 1, 0, 1, 1, 2, 3]

#  window   w     gradients                                  sum    w after = w - sum / 2
#  t0 t1    0     1 (0 - 2) = -2      2 (0 - 1) = -2         -4      2
#  t2 t3    2     1 (2 - 0) = 2       1 (2 - 1) = 1           3      1/2
#  t4 t5    1/2   3 (3/2 - 1) = 3/2   1 (1/2 - 2) = -3/2      0      1/2
#  t6       1/2   ragged: no write
ABOVE = [0, 0, 2, 2, F(1, 2), F(1, 2), F(1, 2)]
BELOW = [0, 2, 2, F(1, 2), F(1, 2), F(1, 2), F(1, 2)]


def test_a_window_writes_the_sum_of_its_gradients_at_its_last_tick() -> None:
    """Every gradient of a window is taken at the weights the window began with."""
    above, below = run(PAIRS, columns(k=KEYS, v=VALUES))
    close(above, column(ABOVE))
    close(below, column(BELOW))


def test_a_ragged_window_goes_on_in_the_next_call() -> None:
    """3 ticks and then 4 are the same as 7: the gradient of t2 waits in the state for the one of t3."""
    above, below = run_in_two(PAIRS, columns(k=KEYS, v=VALUES), 3)
    close(above, column(ABOVE))
    close(below, column(BELOW))


def test_a_ragged_window_does_not_write_by_itself() -> None:
    """One tick a call: the write comes with every second tick."""
    machine, state = interpreter(PAIRS), None
    for key, value, expected in zip(KEYS, VALUES, BELOW, strict=True):
        outs, state = machine.run(inputs_of(columns(k=[key], v=[value])), state)
        close(outs[1], [[[expected]]])


def test_sequences_keep_their_windows_apart() -> None:
    """Two sequences share the count of ticks and nothing else."""
    #  sequence 0:  (1, 2), (2, 1): sum -4, w = 2        sequence 1:  (1, 0), (1, 6): 0 and -6, w = 3
    k = tensor([column([1, 2, 1]), column([1, 1, 1])])
    v = tensor([column([2, 1, 0]), column([0, 6, 0])])
    outs, _ = interpreter(PAIRS).run({"k": k, "v": v})
    close(outs[1], [column([0, 2, 2]), column([0, 3, 3])])


def test_optimizer_and_retention_act_once_per_write() -> None:
    """Momentum and decay count windows, not ticks."""
    text = """
    block Windowed over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 retaining decay(0.5) by momentum(0.25, 0.5) every 2 tokens
      return M(ones(1))
    }
    """
    #  window   w    sum of gradients          s = s / 2 - sum / 4    w = w / 2 + s
    #  t0 t1    0    -2 - 2 = -4               1                      1
    #  t2 t3    1    (1 - 0) + (1 - 1) = 1     1/2 - 1/4 = 1/4        1/2 + 1/4 = 3/4
    close(run(text, columns(k=KEYS[:4], v=VALUES[:4]))[0], column([0, 1, 1, F(3, 4)]))


def test_aggregates_as_rates() -> None:
    """The three aggregates take the ticks of the window that is written; the gradient is its sum, as ever."""
    text = """
    block Windowed over k: [1], v: [1], rate: [1] -> [1], [1], [1] {
      memory Sum, Mean, Last = matrix(1) from zeros
      learn Sum  : k -> v minimizing dot by gd(window_sum(rate))  every 2 tokens
      learn Mean : k -> v minimizing dot by gd(window_mean(rate)) every 2 tokens
      learn Last : k -> v minimizing dot by gd(window_last(rate)) every 2 tokens
      return Sum(ones(1)), Mean(ones(1)), Last(ones(1))
    }
    """
    k, v, rate = [1, 2, 1, 1, 5], [2, 1, 0, 3, 5], [1, F(1, 2), 2, 4, 9]
    #  window   -sum of gradients   rates: sum  mean  last     moves: sum  mean  last
    #  t0 t1    2 + 2 = 4                  3/2  3/4   1/2             6    3     2
    #  t2 t3    0 + 3 = 3                  6    3     4               18   9     12
    outs = run(text, columns(k=k, v=v, rate=rate))
    close(outs[0], column([0, 6, 6, 24, 24]))
    close(outs[1], column([0, 3, 3, 12, 12]))
    close(outs[2], column([0, 2, 2, 14, 14]))


def test_aggregates_across_calls() -> None:
    """What an aggregate has seen of an open window is part of the state."""
    text = """
    block Windowed over k: [1], v: [1], rate: [1], keep: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing dot retaining decay(window_mean(keep)) by gd(window_sum(rate)) every 3 tokens
      return M(ones(1))
    }
    """
    ports = columns(k=[1] * 6, v=[1, 0, 1, 2, 1, 1], rate=[1, 2, 3, 1, 0, 1], keep=[1, 1, 1, 1, F(1, 2), 0])
    #  t0 t1 t2    w = 1 * 0 + 6 * 2 = 12
    #  t3 t4 t5    keep = (1 + 1/2 + 0) / 3 = 1/2, rate = 2, gradients 4:   w = 12 / 2 + 2 * 4 = 14
    expected = [0, 0, 12, 12, 12, 14]
    for cut in (1, 2, 4, 5):
        close(run_in_two(text, ports, cut)[0], column(expected))


def test_times_makes_whole_updates() -> None:
    """Each of the k updates has a new gradient, and optimizer and retention act in each."""
    text = """
    block Twice over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 retaining decay(0.5) by momentum(0.5, 0.5) every token times 2
      return M(ones(1))
    }
    """
    #  tick  update   w      g = k (k w - v)       s = s / 2 - g / 2      w = w / 2 + s
    #  t0    first    0      -2                    1                      1
    #        second   1      1 - 2 = -1            1/2 + 1/2 = 1          1/2 + 1 = 3/2
    #  t1    first    3/2    2 (3 - 1) = 4         1/2 - 2 = -3/2         3/4 - 3/2 = -3/4
    #        second   -3/4   2 (-3/2 - 1) = -5     -3/4 + 5/2 = 7/4       -3/8 + 7/4 = 11/8
    close(run(text, columns(k=[1, 2], v=[2, 1]))[0], column([F(3, 2), F(11, 8)]))


def test_times_in_a_window() -> None:
    """The second update takes the whole window's gradient again, at the weights the first one left."""
    text = """
    block Twice over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(0.25) every 2 tokens times 2
      return M(ones(1))
    }
    """
    #  first   w = 0: -2 - 2 = -4, w = 1        second  w = 1: (1 - 2) + 2 (2 - 1) = 1, w = 3/4
    close(run(text, columns(k=[1, 2, 1], v=[2, 1, 0]))[0], column([0, F(3, 4), F(3, 4)]))


def test_times_across_calls() -> None:
    """An open window keeps its pairs, for the second update needs them again."""
    text = """
    block Twice over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(0.25) every 2 tokens times 2
      return M(ones(1))
    }
    """
    close(run_in_two(text, columns(k=[1, 2, 1], v=[2, 1, 0]), 1)[0], column([0, F(3, 4), F(3, 4)]))


def test_weighted_multiplies_each_gradient_before_the_sum() -> None:
    """The factor is the tick's own, and retention does not see it."""
    text = """
    block Weighted over k: [1], v: [1], e: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 retaining decay(0.5) by gd(0.5) every 2 tokens weighted e
      return M(ones(1))
    }
    """
    #  window   w    gradients   factors   sum                      w = w / 2 - sum / 2
    #  t0 t1    0    -2, -2      3, 1/2    -6 - 1 = -7              7/2
    #  t2 t3    7/2  7/2, 5/2    0, 2      5                        7/4 - 5/2 = -3/4
    ports = columns(k=[1, 2, 1, 1], v=[2, 1, 0, 1], e=[3, F(1, 2), 0, 2])
    close(run(text, ports)[0], column([0, F(7, 2), F(7, 2), F(-3, 4)]))


def test_weighted_every_token() -> None:
    """At period 1 the factor is a second rate, in the gradient: momentum keeps it."""
    text = """
    block Weighted over k: [1], v: [1], e: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing dot by momentum(1, 0.5) every token weighted e
      return M(ones(1))
    }
    """
    #  tick  g = -e k v   s = s / 2 - g   w
    #  t0    -4           4               4
    #  t1    0            2               6
    #  t2    -1           2               8
    close(run(text, columns(k=[1, 1, 1], v=[2, 5, 3], e=[2, 0, F(1, 3)]))[0], column([4, 6, 8]))


def test_weighted_by_a_list() -> None:
    """One factor per learned name, in their order."""
    text = """
    block Weighted over k: [1], v: [1], a: [1], b: [1] -> [1], [1] {
      memory A, B = matrix(1) from zeros
      learn A, B : k -> v minimizing l2 by gd(0.5) every 2 tokens weighted [a, b]
      return A(ones(1)), B(ones(1))
    }
    """
    #  gradients at 0: -2 and -2.   A: -2 * 1 - 2 * 2 = -6, w = 3     B: -2 * 0 - 2 * 1/2 = -1, w = 1/2
    outs = run(text, columns(k=[1, 2], v=[2, 1], a=[1, 2], b=[0, F(1, 2)]))
    close(outs[0], column([0, 3]))
    close(outs[1], column([0, F(1, 2)]))


def test_weighted_by_one_factor_for_all() -> None:
    """A single factor goes to every learned name."""
    text = """
    block Weighted over k: [1], v: [1], a: [1] -> [1], [1] {
      memory A, B = matrix(1) from zeros
      learn A, B : k -> v minimizing l2 by gd(0.5) every 2 tokens weighted a
      return A(ones(1)), B(ones(1))
    }
    """
    outs = run(text, columns(k=[1, 2], v=[2, 1], a=[1, 2]))
    close(outs[0], column([0, 3]))
    close(outs[1], column([0, 3]))


def test_weighted_by_a_list_in_a_joint_objective() -> None:
    """Without `self` there is one objective, and still one factor per learned name."""
    text = """
    block Weighted over k: [1], v: [1], a: [1], b: [1] -> [1], [1] {
      memory A, B = matrix(1) from zeros
      learn A, B minimizing l2(A(k) + B(k), v) by gd(1) every token weighted [a, b]
      return A(ones(1)), B(ones(1))
    }
    """
    #  tick  A    B    r = k (A + B) - v   gradient k r   A - a k r      B - b k r
    #  t0    0    0    -2                  -2             1 * 2 = 2      1/2 * 2 = 1
    #  t1    2    1    2 * 3 - 1 = 5       10             2 - 10 a       1 - 10 b
    outs = run(text, columns(k=[1, 2], v=[2, 1], a=[1, F(1, 10)], b=[F(1, 2), F(1, 5)]))
    close(outs[0], column([2, 1]))
    close(outs[1], column([1, -1]))
