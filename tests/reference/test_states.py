"""States, writes in text order, several learns and several memories in one learn, worked by hand (rules 2, 3 and 6).

The memories are one number each. With l2 the gradient of a pair at w is k (k w - v), with dot it is -k v.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, numbers, put, run, run_with_weights


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


def test_reads_see_the_writes_above_them() -> None:
    """A read above a write has the value of the tick before; two writes of one tick act one after the other."""
    text = """
    block States over x: [1] -> [1], [1], [1] {
      state s: [1] = 3
      above = s
      s <- s + x
      between = s
      s <- 2 * s
      return above, between, s
    }
    """
    #  3 + 1 = 4, 8;   8 + 2 = 10, 20;   20 + 4 = 24, 48
    above, between, below = run(text, {"x": column([1, 2, 4])})
    close(above, column([3, 8, 20]))
    close(between, column([4, 10, 24]))
    close(below, column([8, 20, 48]))


def test_two_states_that_read_each_other() -> None:
    """Text order makes it no cycle: a sees the old b, b sees the new a."""
    text = """
    block States over x: [] -> [], [] {
      state a = 0
      state b = 1
      a <- a + b * x
      b <- a + b
      return a, b
    }
    """
    #  a = 0 + 1 = 1, b = 1 + 1 = 2;   a = 1 + 2 * 2 = 5, b = 7;   a = 5 + 0 = 5, b = 12
    a, b = run(text, {"x": [1, 2, 0]})
    close(a, [1, 5, 5])
    close(b, [2, 7, 12])


WINDOWS = """
block States over x: [1] -> [1], [1], [1], [1] {
  state total: [1] = 0
  state average: [1] = 0
  state newest: [1] = 0
  above = total
  total <- total + window_sum(x) every 2 tokens
  average <- average + window_mean(x) every 2 tokens
  newest <- window_last(x) - newest every 3 tokens
  return above, total, average, newest
}
"""
WINDOWS_X = {"x": column([1, 2, 3, 4, 5, 6, 7])}
#  windows of 2:  1 + 2 = 3,  3 + 4 = 7,  5 + 6 = 11, 7 is open         windows of 3 end with 3 and 6
WINDOWS_OUT = [
    [0, 0, 3, 3, 10, 10, 21],
    [0, 3, 3, 10, 10, 21, 21],
    [0, F(3, 2), F(3, 2), 5, 5, F(21, 2), F(21, 2)],
    [0, 0, 3, 3, 3, 6 - 3, 3],
]


def test_a_slow_write_happens_at_its_line_of_the_last_tick() -> None:
    """Above that line the old value is read, below it the new one; between writes the value is held."""
    for out, expected in zip(run(WINDOWS, WINDOWS_X), WINDOWS_OUT, strict=True):
        close(out, column(expected))


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6])
def test_an_open_window_of_a_state_goes_on_in_the_next_call(cut: int) -> None:
    """What a window has gathered is part of the state."""
    for out, expected in zip(run_in_two(WINDOWS, WINDOWS_X, cut), WINDOWS_OUT, strict=True):
        close(out, column(expected))


def test_weights_shows_states_too() -> None:
    text = """
    block States over x: [1] -> [1] {
      state s: [1] = 1
      s <- s + x
      return s
    }
    """
    outs, weights = run_with_weights(text, {"x": column([1, 2])})
    close(outs[0], column([2, 4]))
    close(weights["s.value"], [4])


def test_tick_counts_from_zero_and_across_calls() -> None:
    text = """
    block States over x: [] -> [] {
      return x * tick
    }
    """
    close(run_in_two(text, {"x": [5, 5, 5, 5]}, 2)[0], [0, 5, 10, 15])


def test_a_write_to_a_memory_with_its_own_period() -> None:
    """`M <- e every 2 tokens` at its line of ticks 1 and 3."""
    text = """
    block States over v: [1] -> [1], [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by gd(1) every token
      above = M(ones(1))
      M <- 0.5 * M every 2 tokens
      return above, M(ones(1))
    }
    """
    #  1;  1 + 2 = 3, 3/2;  3/2 + 3 = 9/2;  9/2 + 4 = 17/2, 17/4;  17/4 + 5
    above, below = run(text, {"v": column([1, 2, 3, 4, 5])})
    close(above, column([1, 3, F(9, 2), F(17, 2), F(37, 4)]))
    close(below, column([1, F(3, 2), F(9, 2), F(17, 4), F(37, 4)]))


def test_a_write_to_a_memory_is_leaf_by_leaf() -> None:
    """Both matrices are halved and squared by themselves; the answer x a b shows it."""
    text = """
    net deep over x: [1] -> [1] {
      param a: [1, 1] = 4
      param b: [1, 1] = 6
      return x @ a @ b
    }
    block States over x: [1] -> [1] {
      memory D = deep
      D <- 0.5 * D^2
      return D(x)
    }
    """
    #  a = 8, b = 18;   a = 32, b = 162
    outs, weights = run_with_weights(text, {"x": column([1, 1])})
    close(outs[0], column([8 * 18, 32 * 162]))
    close(weights["D.a"], [[32]])
    close(weights["D.b"], [[162]])


def test_a_slow_copy_of_a_memory() -> None:
    """Another memory of the same form may stand on the right: the slow one goes half way to the fast one."""
    text = """
    block States over v: [1] -> [1], [1] {
      memory Fast, Slow = matrix(1) from zeros
      learn Fast : ones(1) -> v minimizing dot by gd(1) every token
      Slow <- 0.5 * Slow + 0.5 * window_last(Fast) every 2 tokens
      return Fast(ones(1)), Slow(ones(1))
    }
    """
    fast, slow = run(text, {"v": column([1, 1, 1, 1, 1])})
    close(fast, column([1, 2, 3, 4, 5]))
    #  t1: 0 + 2/2 = 1;   t3: 1/2 + 4/2 = 5/2
    close(slow, column([0, 1, 1, F(5, 2), F(5, 2)]))


def test_several_learns_of_one_memory_write_in_text_order() -> None:
    """The second takes its gradient at what the first has left."""
    text = """
    block Twice over k: [1], v: [1], a: [1], b: [1] -> [1], [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(0.5) every token
      between = M(ones(1))
      learn M : a -> b minimizing l2 by gd(0.25) every token
      return between, M(ones(1))
    }
    """
    #  tick   w      first (k, v)                     between   second (a, b)                      w
    #  t0     0      (1, 2): g = -2                   1         (2, 1): g = 2 (2 - 1) = 2          1/2
    #  t1     1/2    (2, 3): g = 2 (1 - 3) = -4       5/2       (1, 0): g = 5/2                    15/8
    ports = {"k": column([1, 2]), "v": column([2, 3]), "a": column([2, 1]), "b": column([1, 0])}
    between, after = run(text, ports)
    close(between, column([1, F(5, 2)]))
    close(after, column([F(1, 2), F(15, 8)]))


def test_several_learns_have_their_own_paces_and_optimizers() -> None:
    """Momentum at each token and plain steps at every second one, on the same number.

    Reading: each gradient of a window is taken at its tick, at the learn's line, at the weights as they stand there.
    """
    text = """
    block Twice over v: [1], b: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by momentum(1, 0.5) every token
      learn M : ones(1) -> b minimizing l2 by gd(0.5) every 2 tokens
      return M(ones(1))
    }
    """
    #  tick   s              after the first    gradient of the second     sum    after the second
    #  t0     1              1                  1 - 0 = 1                  1      1
    #  t1     1/2 + 1 = 3/2  5/2                5/2 - 2 = 1/2              3/2    5/2 - 3/4 = 7/4
    close(run(text, {"v": column([1, 1]), "b": column([0, 2])})[0], column([1, F(7, 4)]))


def test_all_gradients_come_before_the_writes() -> None:
    """One statement, two memories: A's target is B's answer before B has moved, and the other way round."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn A, B minimizing l2(A(k) - B(k), v) by gd(0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[3]], B__w=[[1]])
    #  r = k A - k B - v,  gradients k r and -k r, at the old A and B
    #  t0: k = 1, v = 1: r = 1;   A = 3 - 1/2 = 5/2,  B = 1 + 1/2 = 3/2
    #  t1: k = 2, v = 4: r = 2 - 4 = -2;   gradients -4 and 4;   A = 9/2,  B = -1/2
    (a, b), _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([1, 4])}))
    close(a[0], column([F(5, 2), F(9, 2)]))
    close(b[0], column([F(3, 2), F(-1, 2)]))


def test_a_product_of_two_memories() -> None:
    """A joint objective through both: y = k B A, and each gradient has the other's old weight in it."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn A, B minimizing l2(A(B(k)), v) by gd(0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[2]], B__w=[[1]])
    #  t0: k = 1, v = 1: r = 2 - 1 = 1;   gradient of A: B r = 1, of B: A r = 2;   A = 3/2, B = 0
    #  t1: k = 1, v = 2: r = -2;          gradient of A: 0, of B: -3;              A = 3/2, B = 3/2
    (a, b), _ = machine.run(inputs_of({"k": column([1, 1]), "v": column([1, 2])}))
    close(a[0], column([F(3, 2), F(3, 2)]))
    close(b[0], column([0, F(3, 2)]))


def test_with_self_each_memory_has_its_own_copy() -> None:
    """`learn A, B : k -> self(v)`: each learns towards its own answer to v, which is data."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn A, B : k -> self(v) minimizing l2 by gd(0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[2]], B__w=[[1]])
    #  gradient k (k w - v w) = k (k - v) w:   k = 2, v = 1: 2 w, so w becomes 0;   k = 1, v = 3: -2 w, 2 w
    (a, b), _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([3, 1])}))
    close(a[0], column([4, 0]))
    close(b[0], column([2, 0]))


def test_self_and_another_memory_of_the_same_statement() -> None:
    """A's target and B's target are B's answers before this tick's write: keys and values come from the line above."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn A, B : k -> B(v) minimizing l2 by gd(0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[4]], B__w=[[1]])
    #  t0: k = 1, target 2 B = 2:  A: 4 - 2 = 2, A = 3;       B: 1 - 2 = -1, B = 3/2
    #  t1: k = 1, target 0:        A = 3/2;                   B = 3/4
    (a, b), _ = machine.run(inputs_of({"k": column([1, 1]), "v": column([2, 0])}))
    close(a[0], column([3, F(3, 2)]))
    close(b[0], column([F(3, 2), F(3, 4)]))


def test_two_statements_see_each_others_writes() -> None:
    """The same as two statements: A's target is B's answer after B's write."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn B : k -> B(v) minimizing l2 by gd(0.5) every token
      learn A : k -> B(v) minimizing l2 by gd(0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[4]], B__w=[[1]])
    #  t0: B: target 2, B = 3/2;   A: target 2 * 3/2 = 3, gradient 1, A = 7/2
    (a, b), _ = machine.run(inputs_of({"k": column([1]), "v": column([2])}))
    close(a[0], column([F(7, 2)]))
    close(b[0], column([F(3, 2)]))


def test_memories_that_make_each_others_targets_under_one_optimizer() -> None:
    """Each taught memory has its own momentum."""
    text = """
    block Both over k: [1], v: [1] -> [1], [1] {
      memory A, B = matrix(1)
      learn A, B : k -> self(v) minimizing l2 by momentum(0.5, 0.5) every token
      return A(ones(1)), B(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, A__w=[[2]], B__w=[[1]])
    #  t0: k = 1, v = 3: gradient -2 w, s = w: A = 4 (s = 2), B = 2 (s = 1)
    #  t1: k = 2, v = 1: gradient 2 w = 8 and 4, s = s / 2 - g / 2 = 1 - 4 = -3 and 1/2 - 2 = -3/2
    (a, b), _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([3, 1])}))
    close(a[0], column([4, 1]))
    close(b[0], column([2, F(1, 2)]))
