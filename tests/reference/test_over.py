"""`over last c tokens`: a write fits the last c pairs together (Atlas), worked by hand (rule 11).

The memory is one number w, starting at 0, with l2: the gradient of a pair at w is k (k w - v).
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

from reference.worked import close, inputs_of, interpreter, numbers, run


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


KEYS = column([1, 2, 1])
VALUES = column([2, 1, 0])

PLAIN = """
block Over over k: [1], v: [1] -> [1] {
  memory M = matrix(1) from zeros
  learn M : k -> v minimizing l2 by gd(0.5) every token over last 2 tokens
  return M(ones(1))
}
"""

#  tick   w     pairs (k, v)      gradients at w                        sum    w after = w - sum / 2
#  t0     0     (1, 2)            -2                                    -2     1
#  t1     1     (2, 1) (1, 2)     2 (2 - 1) = 2     1 (1 - 2) = -1      1      1/2
#  t2     1/2   (1, 0) (2, 1)     1 (1/2) = 1/2     2 (1 - 1) = 0       1/2    1/4
PLAIN_W = [1, F(1, 2), F(1, 4)]


def test_every_pair_of_the_window_counts_at_every_write() -> None:
    """All gradients are taken at the same weights, those before the write."""
    close(run(PLAIN, {"k": KEYS, "v": VALUES})[0], column(PLAIN_W))


def test_the_pairs_go_on_in_the_next_call() -> None:
    """The kept pairs are part of the state."""
    for cut in (1, 2):
        close(run_in_two(PLAIN, {"k": KEYS, "v": VALUES}, cut)[0], column(PLAIN_W))


def test_over_one_token_is_no_window() -> None:
    """c = 1 is the delta rule."""
    text = PLAIN.replace("last 2 tokens", "last token")
    #  w: 0 + 1 = 1;   g = 2 (2 - 1) = 2, w = 0;   g = 0
    close(run(text, {"k": KEYS, "v": VALUES})[0], column([1, 0, 0]))


PER_PAIR = """
block Over over k: [1], v: [1], gamma: [] -> [1] {
  memory M = matrix(1) from zeros
  learn M : k -> v minimizing l2 by gd(0.5) every token over last 2 tokens weighted gamma
  return M(ones(1))
}
"""


def test_a_weight_of_shape_nothing_is_each_pairs_own() -> None:
    """A pair keeps the gamma of the tick it came with."""
    #  tick   w     gamma of the pairs    sum of gamma k (k w - v)                          w after
    #  t0     0     1                     1 * -2 = -2                                       1
    #  t1     1     1/2 (t1), 1 (t0)      1/2 * 2 (2 - 1) + 1 * (1 - 2) = 1 - 1 = 0         1
    #  t2     1     3 (t2), 1/2 (t1)      3 * (1 - 0) + 1/2 * 2 (2 - 1) = 3 + 1 = 4         -1
    ports = {"k": KEYS, "v": VALUES, "gamma": [1, F(1, 2), 3]}
    close(run(PER_PAIR, ports)[0], column([1, 1, -1]))
    for cut in (1, 2):
        close(run_in_two(PER_PAIR, ports, cut)[0], column([1, 1, -1]))


def test_a_weight_of_shape_c_is_todays_by_age() -> None:
    """gamma[0] is for the newest pair, gamma[1] for the one before, and only today's gamma is asked."""
    text = PER_PAIR.replace("gamma: []", "gamma: [2]")
    #  tick   w      gamma       sum of gamma[age] k (k w - v)                              w after
    #  t0     0      1, 9        1 * -2 = -2              (nothing of age 1 yet)            1
    #  t1     1      1/2, 4      1/2 * 2 (2 - 1) + 4 * (1 - 2) = 1 - 4 = -3                 5/2
    #  t2     5/2    2, 1/4      2 * 5/2 + 1/4 * 2 (5 - 1) = 5 + 2 = 7                      -1
    ports = {"k": KEYS, "v": VALUES, "gamma": [[1, 9], [F(1, 2), 4], [2, F(1, 4)]]}
    close(run(text, ports)[0], column([1, F(5, 2), -1]))


def test_a_write_of_several_tokens_sums_over_its_last_c_ticks() -> None:
    """`every 2 tokens over last 3 tokens`: windows overlap by one pair.

    Reading: the objective of a write is the sum over the last c ticks, once, at the tick of the write.
    """
    text = """
    block Over over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(0.5) every 2 tokens over last 3 tokens
      return M(ones(1))
    }
    """
    #  write  w     pairs                    sum of (w - v)                       w after
    #  t1     0     v = 1, 2                 -3                                   3/2
    #  t3     3/2   v = 2, 3, 4 (t1 to t3)   9/2 - 9 = -9/2                       3/2 + 9/4 = 15/4
    expected = [0, F(3, 2), F(3, 2), F(15, 4), F(15, 4)]
    close(run(text, {"k": column([1] * 5), "v": column([1, 2, 3, 4, 9])})[0], column(expected))


def test_over_with_a_held_gradient() -> None:
    """All pairs, old ones too, are taken at the state at the start of today's chunk."""
    text = PLAIN.replace("over last", "hold gradient for 2 tokens over last")
    #  tick   w     anchor   sum of k (k anchor - v)                            w after
    #  t0     0     0        -2                                                 1
    #  t1     1     0        2 (0 - 1) + 1 (0 - 2) = -4                         3
    #  t2     3     3        1 (3 - 0) + 2 (6 - 1) = 13                         3 - 13/2 = -7/2
    close(run(text, {"k": KEYS, "v": VALUES})[0], column([1, 3, F(-7, 2)]))


def test_over_keeps_pairs_of_vectors() -> None:
    """Two channels, dot: with Hebb's gradient -outer(k, v) a write adds the last two outer products again."""
    text = """
    block Over over k: [2], v: [2], q: [2] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot by gd(1) every token over last 2 tokens
      return M(q)
    }
    """
    #  outer products, a row for each channel of k:
    #     P0 = [[1, 2], [0, 0]]    P1 = [[0, 0], [3, 1]]    P2 = [[1, 1], [1, 1]]
    #  M: P0;   P0 + (P0 + P1) = [[2, 4], [3, 1]];   that + (P1 + P2) = [[3, 5], [7, 3]]
    #  q = (1, 1) sums the rows: (1, 2), (5, 5), (10, 8)
    ports = {"k": [[1, 0], [0, 1], [1, 1]], "v": [[1, 2], [3, 1], [1, 1]], "q": [[1, 1]] * 3}
    close(run(text, ports)[0], [[1, 2], [5, 5], [10, 8]])
