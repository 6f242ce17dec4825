"""`reset`: a memory, its optimizer and its windows restart before the tick's first read (rules 7 and 16).

The memory is one number w. With l2 the gradient of a pair is k (k w - v), with dot it is -k v. All reads are at 1.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, numbers, put, run, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


def hebb(reset: str, clauses: str) -> str:
    """w adds the products k v, with the given reset and clauses; read above and below the learn."""
    return f"""
    block Restarted over k: [1], v: [1], g: [] -> [1], [1] {{
      memory M = matrix(1) from zeros {reset}
      above = M(ones(1))
      learn M : k -> v minimizing dot {clauses}
      below = M(ones(1))
      return above, below
    }}
    """


def ports(v: list[Any], g: list[Any] | None = None) -> dict[str, list[Any]]:
    """Keys 1, the given values, and the stream g (0 where not given)."""
    return {"k": column([1] * len(v)), "v": column(v), "g": g or [0] * len(v)}


def test_weights_restart_before_the_first_read() -> None:
    """Every 3 tokens: the read above the learn already sees the start at ticks 3 and 6."""
    text = hebb("reset every 3 tokens", "by gd(1) every token")
    above, below = run(text, ports([1, 2, 4, 8, 16, 32, 64]))
    close(above, column([0, 1, 3, 0, 8, 24, 0]))
    close(below, column([1, 3, 7, 8, 24, 56, 64]))


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_ticks_are_counted_across_calls(cut: int) -> None:
    """A reset comes at its tick of the sequence, not of the call."""
    text = hebb("reset every 3 tokens", "by gd(1) every token")
    close(run_in_two(text, ports([1, 2, 4, 8, 16, 32, 64]), cut)[1], column([1, 3, 7, 8, 24, 56, 64]))


def test_weights_restart_at_their_learned_start() -> None:
    """The start is the parameter, 4 here."""
    machine = interpreter(
        """
        block Restarted over k: [1], v: [1] -> [1], [1] {
          memory M = matrix(1) reset every 2 tokens
          above = M(ones(1))
          learn M : k -> v minimizing l2 by gd(0.5) every token
          return above, M(ones(1))
        }
        """
    )
    put(machine, M__w=[[4]])
    (above, below), _ = machine.run(inputs_of({"k": column([1, 1, 1]), "v": column([2, 0, 1])}))
    #  t0: 4 - (4 - 2) / 2 = 3;   t1: 3 - 3 / 2 = 3/2;   t2: 4 again, 4 - (4 - 1) / 2 = 5/2
    close(above[0], column([4, 3, 4]))
    close(below[0], column([3, F(3, 2), F(5, 2)]))


def test_the_optimizer_restarts() -> None:
    """Momentum starts from 0 again: without that the third write would be 1 + 7/4."""
    text = hebb("reset every 2 tokens", "by momentum(1, 0.5) every token")
    #  tick   s = s / 2 + v         w
    #  t0     1                     1
    #  t1     1/2 + 3 = 7/2         9/2
    #  t2     1  (from s = 0)       1  (from w = 0)
    #  t3     1/2 + 2 = 5/2         7/2
    close(run(text, ports([1, 3, 1, 2]))[1], column([1, F(9, 2), 1, F(7, 2)]))


def test_an_open_window_is_dropped() -> None:
    """`every 2 tokens`, reset every 3: a new window begins at each reset, so writes come at ticks 1, 4 and 7."""
    text = hebb("reset every 3 tokens", "by gd(1) every 2 tokens")
    #  t0 t1: 1 + 2 = 3;   t2 is dropped;   t3 t4: 8 + 16 = 24;   t5 is dropped;   t6 t7: 64 + 128
    above, below = run(text, ports([1, 2, 4, 8, 16, 32, 64, 128]))
    close(below, column([0, 3, 3, 0, 24, 24, 0, 192]))
    close(above, column([0, 0, 3, 0, 0, 24, 0, 0]))


def test_an_aggregate_in_an_open_window_is_dropped() -> None:
    """The mean rate of a window has forgotten what was before the reset, too."""
    text = hebb("reset every 3 tokens", "by gd(window_mean(g)) every 2 tokens")
    #  t0 t1: rate (1 + 3) / 2 = 2, 2 * 3 = 6;   t3 t4: rate (1 + 0) / 2 = 1/2, 1/2 * 24 = 12
    _, below = run(text, ports([1, 2, 4, 8, 16], [1, 3, 100, 1, 0]))
    close(below, column([0, 6, 6, 0, 12]))


def test_the_pairs_of_over_are_dropped() -> None:
    """The first write after a reset has one pair."""
    text = hebb("reset every 2 tokens", "by gd(1) every token over last 2 tokens")
    #  t0: 1;   t1: 1 + (1 + 2) = 4;   t2: 4;   t3: 4 + (4 + 8) = 16
    close(run(text, ports([1, 2, 4, 8]))[1], column([1, 4, 4, 16]))


def test_the_anchor_restarts() -> None:
    """At a reset the state at the start of the tick is the start."""
    text = hebb("reset every 4 tokens", "by gd(0.5) every token hold gradient for 2 tokens").replace("dot", "l2")
    #  tick   anchor   g = anchor - v    w
    #  t0     0        -2                1
    #  t1     0        -4                3
    #  t2     3        3 - 1 = 2         2
    #  t3     3        3 - 1 = 2         1
    #  t4     0        -2                1
    #  t5     0        -6                4
    above, below = run(text, ports([2, 4, 1, 1, 2, 6]))
    close(below, column([1, 3, 2, 1, 1, 4]))
    close(above, column([0, 1, 3, 2, 0, 1]))


def test_a_reset_inside_a_chunk_moves_the_anchor() -> None:
    """Reading: from the reset on, gradients of that chunk are taken at the start; nothing of before is seen again."""
    text = hebb("reset when g > 0", "by gd(0.5) every token hold gradient for 2 tokens").replace("dot", "l2")
    #  tick   anchor        g = anchor - v    w
    #  t0     0             -2                1
    #  t1     0             -4                3
    #  t2     3             -3                9/2
    #  t3     0 (reset)     -8                4
    #  t4     4             3                 5/2
    close(run(text, ports([2, 4, 6, 8, 1], [0, 0, 0, 1, 0]))[1], column([1, 3, F(9, 2), 4, F(5, 2)]))


def test_a_reset_inside_a_chunk_is_seen_by_held_reads() -> None:
    """Reading: the held state that reads see restarts with the memory."""
    text = hebb("reset when g > 0", "by gd(1) every token hold state for 4 tokens")
    #  running: 1, 3, 7, 15, 31 in the chunk of ticks 4 to 7, which began at 15; reset at t5: 32, 96, 224
    above, below = run(text, ports([1, 2, 4, 8, 16, 32, 64, 128, 1], [0, 0, 0, 0, 0, 1, 0, 0, 0]))
    close(above, column([0, 0, 0, 0, 15, 0, 0, 0, 224]))
    close(below, column([0, 0, 0, 0, 15, 0, 0, 0, 224]))


def test_a_reset_of_a_held_state() -> None:
    """Reads see the start from the reset on."""
    text = hebb("reset every 4 tokens", "by gd(1) every token hold state for 2 tokens")
    #  running: 1, 3, 7, 15, then 16, 48
    above, below = run(text, ports([1, 2, 4, 8, 16, 32, 64]))
    close(above, column([0, 0, 3, 3, 0, 0, 48]))
    close(below, column([0, 0, 3, 3, 0, 0, 48]))


def test_reset_when() -> None:
    """On each tick with the condition, before its first read, with optimizer and window."""
    text = hebb("reset when g > 0", "by momentum(1, 0.5) every token")
    #  tick   reset   s = s / 2 + v      w
    #  t0     no      2                  2
    #  t1     no      1 + 1 = 2          4
    #  t2     yes     3                  3
    #  t3     yes     1                  1
    #  t4     no      1/2 + 1 = 3/2      5/2
    above, below = run(text, ports([2, 1, 3, 1, 1], [0, 0, 1, 1, 0]))
    close(above, column([0, 2, 0, 0, 1]))
    close(below, column([2, 4, 3, 1, F(5, 2)]))


def test_reset_when_moves_the_windows() -> None:
    """A window of 2 begins at the reset."""
    text = hebb("reset when g > 0", "by gd(1) every 2 tokens")
    #  t0 t1: 3;   t2 dropped, reset at t3;   t3 t4: 24;   t5 t6: 24 + 96
    close(run(text, ports([1, 2, 4, 8, 16, 32, 64], [0, 0, 0, 1, 0, 0, 0]))[1], column([0, 3, 3, 0, 24, 24, 120]))


def test_reset_when_is_per_sequence() -> None:
    """Two sequences with one stream of pairs; the windows of one move, those of the other don't."""
    text = hebb("reset when g > 0", "by gd(1) every 2 tokens")
    v = tensor([column([1, 2, 4, 8])] * 2)
    machine = interpreter(text)
    outs, _ = machine.run({"k": tensor([column([1] * 4)] * 2), "v": v, "g": tensor([[0, 0, 0, 0], [0, 1, 0, 0]])})
    #  sequence 0: 3 at t1, 3 + 12 at t3       sequence 1: 2 + 4 at t2, a window open at t3
    close(outs[1], [column([0, 3, 3, 15]), column([0, 0, 6, 6])])


def test_reset_when_is_per_head() -> None:
    """Head 1 restarts at tick 1, head 0 at tick 2."""
    text = """
    block Restarted over v: [2], g: [2] -> [2] {
      gate = sum(g |> split(2))
      memory M[2] = matrix(1) from zeros reset when gate > 0
      learn M : ones(2) |> split(2) -> v |> split(2) minimizing dot by momentum(1, 0.5) every token
      return M(ones(2) |> split(2)) |> merge
    }
    """
    #  head 0, v = 2, 1, 3:   s = 2, 2, 3 (reset);       w = 2, 4, 3
    #  head 1, v = 1, 2, 1:   s = 1, 2 (reset), 2;       w = 1, 2, 4
    outs = run(text, {"v": [[2, 1], [1, 2], [3, 1]], "g": [[0, 0], [0, 1], [1, 0]]})
    close(outs[0], [[2, 1], [4, 2], [3, 4]])


def test_an_optimizers_state_may_restart_by_itself() -> None:
    """`reset every 2 updates`: before the update's first read; the weights go on."""
    text = """
    optimizer burst(lr) over g {
      state s = 0 reset every 2 updates
      s <- s - lr * g
      return s
    }
    """ + hebb("", "by burst(1) every token")
    #  update   s            w
    #  0        1            1
    #  1        1 + 2 = 3    4
    #  2        3            7
    #  3        3 + 4 = 7    14
    #  4        5            19
    close(run(text, ports([1, 2, 3, 4, 5]), name="Restarted")[1], column([1, 4, 7, 14, 19]))


def test_updates_are_counted_from_the_memorys_restart() -> None:
    """A reset of the memory restarts its optimizer, and with it the count of updates.

    Reading: "restarts its optimizer" includes the clock that `reset every 2 updates` and `tick` go by.
    """
    text = """
    optimizer burst(lr) over g {
      state s = 0 reset every 2 updates
      s <- s - lr * g
      return s + tick
    }
    """ + hebb("reset every 3 tokens", "by burst(1) every token")
    #  update   s            u = s + tick    w
    #  0        1            1               1
    #  1        1 + 2 = 3    4               5
    #  2        3            5               10
    #  0        4            4               4
    #  1        4 + 5 = 9    10              14
    close(run(text, ports([1, 2, 3, 4, 5]), name="Restarted")[1], column([1, 5, 10, 4, 14]))


def test_a_blocks_state_may_restart() -> None:
    """A running sum of two ticks: the read above the write sees the restart."""
    text = """
    block Restarted over x: [1] -> [1], [1] {
      state s: [1] = 0.5 reset every 2 tokens
      above = s
      s <- s + x
      return above, s
    }
    """
    above, below = run(text, {"x": column([1, 2, 3, 4, 5])})
    close(above, column([F(1, 2), F(3, 2), F(1, 2), F(7, 2), F(1, 2)]))
    close(below, column([F(3, 2), F(7, 2), F(7, 2), F(15, 2), F(11, 2)]))


def test_the_window_of_a_state_restarts_with_it() -> None:
    """A sum of two ticks at a time, restarted every 3: what tick 2 brought is dropped, as with a memory's window."""
    text = """
    block Restarted over x: [1] -> [1] {
      state s: [1] = 0 reset every 3 tokens
      s <- s + window_sum(x) every 2 tokens
      return s
    }
    """
    close(run(text, {"x": column([1, 2, 4, 8, 16, 32, 64, 128])})[0], column([0, 3, 3, 0, 24, 24, 0, 192]))


def test_a_blocks_state_may_restart_on_a_condition() -> None:
    """Per sequence, on the ticks where the stream is negative."""
    text = """
    block Restarted over x: [] -> [] {
      state s = 0 reset when x < 0
      s <- s + x
      return s
    }
    """
    outs, _ = interpreter(text).run({"x": tensor([[1, 2, -3, 4], [1, -2, 3, 4]])})
    close(outs[0], [[1, 3, -3, 1], [1, -2, 1, 5]])
