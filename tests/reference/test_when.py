"""`when cond`: only ticks on which the condition holds count, worked by hand (rule 11).

The memory is one number w, starting at 0, with l2: the gradient of a pair at w is k (k w - v). All reads are at 1.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, numbers, run, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


def gated(clauses: str) -> str:
    """One memory that learns only while the gate is above zero, read below its learn."""
    return f"""
    block Gated over k: [1], v: [1], gate: [] -> [1] {{
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 {clauses} when gate > 0
      return M(ones(1))
    }}
    """


def test_nothing_happens_on_a_false_tick() -> None:
    """No write, no decay, and the momentum stands still."""
    text = gated("retaining decay(0.5) by momentum(0.5, 0.5) every token")
    #  tick   gate   w      g             s = s / 2 - g / 2      w = w / 2 + s
    #  t0     yes    0      -2            1                      1
    #  t1     no     1                    1                      1
    #  t2     yes    1      2 (2 - 1)     1/2 - 1 = -1/2         1/2 - 1/2 = 0
    #  t3     no     0                    -1/2                   0
    #  t4     yes    0      -4            -1/4 + 2 = 7/4         7/4
    ports = {"k": column([1, 1, 2, 1, 1]), "v": column([2, 9, 1, 9, 4]), "gate": [1, 0, 1, -1, 2]}
    expected = column([1, 1, 0, 0, F(7, 4)])
    close(run(text, ports)[0], expected)
    for cut in (1, 2, 3, 4):
        close(run_in_two(text, ports, cut)[0], expected)


WINDOW = gated("retaining decay(0.5) by gd(0.5) every 2 tokens")
WINDOW_PORTS = {
    "k": column([1] * 8),
    "v": column([2, 9, 9, 9, 9, 6, 1, 3]),
    "gate": [1, 0, 0, 0, 0, 1, 1, 1],
}
#  window   gates      w      sum of (w - v) on true ticks           w = w / 2 - sum / 2, at the second tick
#  t0 t1    yes no     0      -2                                     1
#  t2 t3    no  no     1      no write, no decay                     1
#  t4 t5    no  yes    1      1 - 6 = -5                             1/2 + 5/2 = 3
#  t6 t7    yes yes    3      2 + 0 = 2                              3/2 - 1 = 1/2
WINDOW_W = column([0, 1, 1, 1, 1, 3, 3, F(1, 2)])


def test_a_window_sums_its_true_ticks() -> None:
    """It writes at its last tick, true or not, and not at all without a true tick."""
    close(run(WINDOW, WINDOW_PORTS)[0], WINDOW_W)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7])
def test_a_gated_window_goes_on_in_the_next_call(cut: int) -> None:
    """Whether an open window has had a true tick is part of the state."""
    close(run_in_two(WINDOW, WINDOW_PORTS, cut)[0], WINDOW_W)


def test_each_sequence_has_its_own_condition() -> None:
    """Two sequences with one stream of pairs and different gates."""
    text = gated("retaining decay(0.5) by gd(0.5) every token")
    k = tensor([column([1, 1]), column([1, 1])])
    v = tensor([column([2, 4]), column([2, 4])])
    outs, _ = interpreter(text).run({"k": k, "v": v, "gate": tensor([[1, 0], [0, 1]])})
    #  sequence 0: w = 1, 1        sequence 1: w = 0, then 0 / 2 + 2 = 2
    close(outs[0], [column([1, 1]), column([0, 2])])


def test_a_window_of_one_sequence_writes_and_of_another_does_not() -> None:
    """The momentum of the second sequence has not moved, either."""
    text = gated("by momentum(0.5, 0.5) every 2 tokens")
    k = tensor([column([1] * 4)] * 2)
    v = tensor([column([2, 2, 1, 1])] * 2)
    outs, _ = interpreter(text).run({"k": k, "v": v, "gate": tensor([[1, 1, 1, 0], [0, 0, 1, 0]])})
    #  sequence 0:  sum -4, s = 2, w = 2;   then 2 - 1 = 1, s = 1 - 1/2 = 1/2, w = 5/2
    #  sequence 1:  nothing;                then 0 - 1 = -1, s = 1/2, w = 1/2
    close(outs[0], [column([0, 2, 2, F(5, 2)]), column([0, 0, 0, F(1, 2)])])


@pytest.mark.parametrize("gate", ["gate", "gate |> split(2)", "sum(gate |> split(2))"])
def test_each_head_has_its_own_condition(gate: str) -> None:
    """Two heads, one number each. The gate is a stream of shape [heads], [heads, 1] or, per head, []."""
    text = f"""
    block Gated over k: [2], v: [2], gate: [2] -> [2] {{
      memory M[2] = matrix(1) from zeros
      g = {gate}
      learn M : k |> split(2) -> v |> split(2) minimizing l2 retaining decay(0.5) by gd(0.5) every token when g > 0
      return M(ones(2) |> split(2)) |> merge
    }}
    """
    #  tick   gates       head 0                           head 1
    #  t0     yes no      w = 0 + 1 = 1                    0
    #  t1     no  yes     1                                g = -6, w = 3
    #  t2     yes yes     g = 1 - 3 = -2, w = 1/2 + 1      g = 2 (6 - 1) = 10, w = 3/2 - 5 = -7/2
    ports = {"k": [[1, 1], [1, 1], [1, 2]], "v": [[2, 4], [9, 6], [3, 1]], "gate": [[1, 0], [0, 1], [1, 1]]}
    close(run(text, ports)[0], [[1, 0], [1, 3], [F(3, 2), F(-7, 2)]])


def test_when_with_weighted() -> None:
    """Both at once: a true tick's gradient with its own factor."""
    text = """
    block Gated over k: [1], v: [1], e: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing dot by gd(1) every 3 tokens weighted e when sum(e) > 1
      return M(ones(1))
    }
    """
    #  k v: 2, 3, 5;  e: 1, 2, 3 -> 2 * 3 + 3 * 5 = 21
    ports = {"k": column([1, 1, 1]), "v": column([2, 3, 5]), "e": column([1, 2, 3])}
    close(run(text, ports)[0], column([0, 0, 21]))


def test_a_condition_may_read_the_memory_itself() -> None:
    """Learn only when the answer is off by more than 1: the condition is read above the learn."""
    text = """
    block Gated over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      surprise = sum(abs(M(k) - v))
      learn M : k -> v minimizing l2 by gd(0.5) every token when surprise > 1
      return M(ones(1))
    }
    """
    #  tick   w    surprise           g       w
    #  t0     0    |0 - 4| = 4        -4      2
    #  t1     2    |2 - 3| = 1                2
    #  t2     2    |2 - 0| = 2        2       1
    #  t3     1    |1 - 0| = 1                1
    close(run(text, {"k": column([1] * 4), "v": column([4, 3, 0, 0])})[0], column([2, 2, 1, 1]))


def test_when_with_a_held_gradient() -> None:
    """The chunks go by the count of ticks, not by the ticks that count."""
    text = gated("by gd(0.5) every token hold gradient for 2 tokens")
    #  tick   gate   w     anchor   g            w
    #  t0     no     0     0                     0
    #  t1     yes    0     0        0 - 2        1
    #  t2     yes    1     1        1 - 3        2
    #  t3     yes    2     1        1 - 4        7/2
    ports = {"k": column([1] * 4), "v": column([9, 2, 3, 4]), "gate": [0, 1, 1, 1]}
    close(run(text, ports)[0], column([0, 1, 2, F(7, 2)]))
