"""`hold gradient` and `hold state`, `M <- ...` against `retaining`, worked by hand (rules 2 and 10).

The memory is one number w, starting at 0, with l2: the gradient of a pair at w is k (k w - v). All reads are at 1.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, numbers, run, run_with_weights


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


def held(clauses: str) -> str:
    """One memory with the given clauses, read above and below its learn."""
    return f"""
    block Held over k: [1], v: [1] -> [1], [1] {{
      memory M = matrix(1) from zeros
      above = M(ones(1))
      learn M : k -> v minimizing l2 by gd(0.5) every token {clauses}
      below = M(ones(1))
      return above, below
    }}
    """


PORTS = {"k": column([1, 2, 1, 1]), "v": column([2, 1, 0, 1])}

#  tick   anchor of 2   gradient k (k anchor - v)    w before   w after
#  t0     0             -2                           0          1
#  t1     0             2 (0 - 1) = -2               1          2
#  t2     2             2                            2          1
#  t3     2             2 - 1 = 1                    1          1/2
RUNNING = [0, 1, 2, 1, F(1, 2)]


def test_hold_gradient_changes_where_gradients_are_taken() -> None:
    """Reads see the running weights."""
    above, below = run(held("hold gradient for 2 tokens"), PORTS)
    close(above, column(RUNNING[:4]))
    close(below, column(RUNNING[1:]))


def test_hold_state_changes_what_reads_see_too() -> None:
    """The running weights are the same as under `hold gradient`; reads see them at the chunk's start."""
    (above, below), weights = run_with_weights(held("hold state for 2 tokens"), PORTS)
    close(above, column([0, 0, 2, 2]))
    close(below, column([0, 0, 2, 2]))
    close(weights["M.w"], [[F(1, 2)]])


def test_no_hold() -> None:
    """The same stream without a hold: other numbers, so the tests above tell something."""
    #  g:  -2;   2 (2 - 1) = 2;   0;   0 - 1      w: 1, 0, 0, 1/2
    close(run(held(""), PORTS)[1], column([1, 0, 0, F(1, 2)]))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_anchor_goes_on_in_the_next_call(cut: int) -> None:
    """A chunk that a call cuts keeps its anchor."""
    close(run_in_two(held("hold gradient for 2 tokens"), PORTS, cut)[1], column(RUNNING[1:]))
    close(run_in_two(held("hold state for 2 tokens"), PORTS, cut)[1], column([0, 0, 2, 2]))


#  keep = 1/2    tick   anchor   gradient         w = w / 2 - g / 2
#                t0     0        -2               1
#                t1     0        -2               1/2 + 1 = 3/2
#                t2     3/2      3/2              3/4 - 3/4 = 0
#                t3     3/2      3/2 - 1 = 1/2    0 - 1/4 = -1/4
DECAYED = [1, F(3, 2), 0, F(-1, 4)]


def test_retention_acts_on_the_running_weights() -> None:
    """Under a hold the gradient is old and the decay is not."""
    close(run(held("retaining decay(0.5) hold gradient for 2 tokens"), PORTS)[1], column(DECAYED))


def test_decay_above_the_learn_under_a_held_gradient() -> None:
    """`M <- alpha * M` above the learn and `retaining decay(alpha)` agree when the gradient is held."""
    text = held("hold gradient for 2 tokens").replace("learn M", "M <- 0.5 * M  learn M")
    close(run(text, PORTS)[1], column(DECAYED))


def test_decay_above_the_learn_under_a_held_state() -> None:
    """`M <- ...` acts on the running weights, not on those that reads see."""
    text = held("hold state for 2 tokens").replace("learn M", "M <- 0.5 * M  learn M")
    (above, below), weights = run_with_weights(text, PORTS)
    close(above, column([0, 0, F(3, 2), F(3, 2)]))
    close(below, column([0, 0, F(3, 2), F(3, 2)]))
    close(weights["M.w"], [[F(-1, 4)]])


def test_decay_above_the_learn_and_retention_differ_without_a_hold() -> None:
    """Gated DeltaNet takes the error on the decayed state, Titans on the state before it decays."""
    #             Gated DeltaNet                                  Titans
    #  tick   w     decayed   g                     w        w     g                      w = w / 2 - g / 2
    #  t0     0     0         -2                    1        0     -2                     1
    #  t1     1     1/2       2 (1 - 1) = 0         1/2      1     2 (2 - 1) = 2          1/2 - 1 = -1/2
    #  t2     1/2   1/4       1/4                   1/8      -1/2  -1/2                   -1/4 + 1/4 = 0
    #  t3     1/8   1/16      1/16 - 1 = -15/16     17/32    0     -1                     1/2
    gated = held("").replace("learn M", "M <- 0.5 * M  learn M")
    close(run(gated, PORTS)[1], column([1, F(1, 2), F(1, 8), F(17, 32)]))
    close(run(held("retaining decay(0.5)"), PORTS)[1], column([1, F(-1, 2), 0, F(1, 2)]))


def test_the_read_between_sees_the_decayed_memory() -> None:
    """`M <- ...` is a write at its line: a read between it and the learn sees the decayed weights."""
    text = """
    block Between over k: [1], v: [1] -> [1], [1], [1] {
      memory M = matrix(1) from zeros
      above = M(ones(1))
      M <- 0.5 * M
      between = M(ones(1))
      learn M : k -> v minimizing l2 by gd(0.5) every token
      below = M(ones(1))
      return above, between, below
    }
    """
    above, between, below = run(text, PORTS)
    close(above, column([0, 1, F(1, 2), F(1, 8)]))
    close(between, column([0, F(1, 2), F(1, 4), F(1, 16)]))
    close(below, column([1, F(1, 2), F(1, 8), F(17, 32)]))


def test_momentum_under_a_hold() -> None:
    """The optimizer's state runs on at every token; only the gradient is taken at the anchor."""
    text = held("hold gradient for 2 tokens").replace("gd(0.5)", "momentum(0.5, 0.5)")
    #  tick   w      anchor   g          s = s / 2 - g / 2         w
    #  t0     0      0        -2         1                         1
    #  t1     1      0        -2         1/2 + 1 = 3/2             5/2
    #  t2     5/2    5/2      5/2        3/4 - 5/4 = -1/2          2
    #  t3     2      5/2      3/2        -1/4 - 3/4 = -1           1
    close(run(text, PORTS)[1], column([1, F(5, 2), 2, 1]))


def test_a_hold_of_several_windows() -> None:
    """`every 2 tokens hold gradient for 4 tokens`: two writes from gradients at one anchor."""
    text = held("hold gradient for 4 tokens").replace("every token", "every 2 tokens")
    ports = {"k": column([1] * 6), "v": column([1, 2, 3, 4, 5, 6])}
    #  write   anchor   sum of (anchor - v)       w
    #  t1      0        -1 - 2 = -3               3/2
    #  t3      0        -3 - 4 = -7               5
    #  t5      5        0 - 1 = -1                11/2
    above, below = run(text, ports)
    close(below, column([0, F(3, 2), F(3, 2), 5, 5, F(11, 2)]))
    close(above, column([0, 0, F(3, 2), F(3, 2), 5, 5]))
    for cut in (1, 3, 5):
        close(run_in_two(text, ports, cut)[1], below)


def test_a_held_state_of_several_windows() -> None:
    """The same under `hold state`: reads see the weights of tick 4 floor(t / 4)."""
    text = held("hold state for 4 tokens").replace("every token", "every 2 tokens")
    ports = {"k": column([1] * 6), "v": column([1, 2, 3, 4, 5, 6])}
    (above, below), weights = run_with_weights(text, ports)
    close(above, column([0, 0, 0, 0, 5, 5]))
    close(below, column([0, 0, 0, 0, 5, 5]))
    close(weights["M.w"], [[F(11, 2)]])


DEEP = """
net deep over x: [1] -> [1] {
  param a: [1, 1] = 1
  param b: [1, 1] = 1
  return x @ a @ b
}
block Held over k: [1], v: [1] -> [1] {
  memory D = deep
  learn D : k -> v minimizing l2 retaining erase(1, 0.5) by gd(0.5) every token HOLD
  return D(ones(1))
}
"""


def test_the_key_of_an_inner_layer_is_taken_at_the_anchor() -> None:
    """The second matrix's key is its input k a in the pass whose gradient was taken: under a hold, at the anchor."""
    #  y = k a b, r = y - v;  a: key k, gradient k b r;  b: key k a, gradient k a r;  w = w - key^2 w / 2 - g / 2
    ports = {"k": column([1, 2]), "v": column([3, 1])}
    #  tick 0, a = b = 1:      r = 1 - 3 = -2;   a = 1 - 1/2 + 1 = 3/2;   b the same
    a = b = F(3, 2)
    #  tick 1, k = 2, at the anchor a = b = 1:   r = 2 - 1 = 1
    #     a: key 2, g = 2      3/2 - 4/2 * 3/2 - 1 = -5/2
    #     b: key 2, g = 2      the same
    held_a = a - F(1, 2) * 2**2 * a - F(1, 2) * 2
    held_b = b - F(1, 2) * 2**2 * b - F(1, 2) * 2
    assert held_a == held_b == F(-5, 2)
    anchored = run_with_weights(DEEP.replace("HOLD", "hold gradient for 2 tokens"), ports)[1]
    close(anchored["D.a"], [[held_a]])
    close(anchored["D.b"], [[held_b]])
    #  tick 1 without the hold:                  r = 2 * 9/4 - 1 = 7/2
    #     a: key 2, g = 2 * 3/2 * 7/2 = 21/2     3/2 - 3 - 21/4 = -27/4
    #     b: key 3, g = 3 * 7/2 = 21/2           3/2 - 9/2 * 3/2 - 21/4 = -21/2
    free = run_with_weights(DEEP.replace("HOLD", ""), ports)[1]
    close(free["D.a"], [[F(3, 2) - 3 - F(21, 4)]])
    close(free["D.b"], [[F(3, 2) - F(9, 2) * F(3, 2) - F(21, 4)]])
