"""The step clock: what `m.step` writes, worked by hand (rules 1, 12, 13 and 14).

The models are lines: y = w x, loss = (y - t)^2 / 2, so the gradient of a tick is x (w x - t).
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

from nldsl.compiler.reference import Interpreter
from reference.worked import close, inputs_of, interpreter, put, stream, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def pairs(x: list[Any], t: list[Any]) -> dict[str, Any]:
    """One sequence of inputs and targets."""
    return inputs_of({"x": column(x), "t": column(t)})


def line(by: str) -> Interpreter:
    """One weight, at 1."""
    machine = interpreter(
        f"""
        model Line over x: [1], t: [1] -> [1] {{
          y = x |> linear(1)
          loss = 0.5 * sum((y - t)^2)
          learn * minimizing loss {by}
          return y
        }}
        """
    )
    put(machine, y__linear__w=[[1]])
    return machine


def two(learns: str) -> Interpreter:
    """Two weights that are added, both at 0: y = (A + B) x."""
    machine = interpreter(
        f"""
        model Two over x: [1], t: [1] -> [1] {{
          memory A, B = matrix(1)
          y = A(x) + B(x)
          loss = 0.5 * sum((y - t)^2)
          {learns}
          return y
        }}
        """
    )
    put(machine, A__w=[[0]], B__w=[[0]])
    return machine


#  x       t       w x - t     x (w x - t) at w = 1
#  1 2     1 3     0 -1        0 -2
#  0 1     2 5     -2 -4       0 -4                     mean of the four: -3/2
BATCH = {"x": tensor([column([1, 2]), column([0, 1])]), "t": tensor([column([1, 3]), column([2, 5])])}


def test_a_step_takes_the_mean_over_the_ticks_of_the_batch() -> None:
    machine = line("by gd(0.5) every step")
    loss, _ = machine.step(BATCH)
    close(loss.detach(), F(0 + 1 + 4 + 16, 2) / 4)
    close(machine.parameters["y.linear.w"], [[F(7, 4)]])
    #  again, at 7/4:  3/4 + 2 * 1/2 + 0 - 13/4 = -3/2, mean -3/8
    loss, _ = machine.step(BATCH)
    close(loss.detach(), (F(9, 16) + F(1, 4) + 4 + F(169, 16)) / 8)
    close(machine.parameters["y.linear.w"], [[F(7, 4) + F(3, 16)]])


def test_losses_are_per_row_and_tick() -> None:
    machine = line("by gd(0.5) every step")
    rows, _ = machine.losses(BATCH)
    for row, expected in zip(rows, [[0, F(1, 2)], [2, 8]], strict=True):
        assert len(row) == len(expected)
        for loss, by_hand in zip(row, expected, strict=True):
            close(loss.detach(), by_hand)


def test_with_next_the_last_tick_has_no_target() -> None:
    machine = interpreter(
        """
        model Line over x: [1] -> [1] {
          y = x |> linear(1)
          loss = 0.5 * sum((y - next(x))^2)
          learn * minimizing loss by gd(0.5) every step
          return y
        }
        """
    )
    put(machine, y__linear__w=[[1]])
    batch = tensor([column([1, 2, 3]), column([1, 0, 2])])
    rows, _ = machine.losses(batch)
    assert [len(row) for row in rows] == [2, 2]
    #  errors 1 - 2, 2 - 3;  1 - 0, 0 - 2;   gradients -1, -2, 1, 0, mean -1/2
    loss, _ = machine.step(batch)
    close(loss.detach(), F(1 + 1 + 1 + 4, 8))
    close(machine.parameters["y.linear.w"], [[F(5, 4)]])


def test_every_2_steps_takes_the_mean_of_two_steps() -> None:
    """The write comes with the second, and both gradients are taken at the same weights."""
    machine = line("by gd(0.5) every 2 steps")
    machine.step(BATCH)
    close(machine.parameters["y.linear.w"], [[1]])
    #  x = 2, t = 0: gradient 4;   (-3/2 + 4) / 2 = 5/4
    machine.step(pairs([2], [0]))
    close(machine.parameters["y.linear.w"], [[F(3, 8)]])
    #  the next window begins anew: x = 1, t = 0: 3/8 twice
    machine.step(pairs([1], [0]))
    close(machine.parameters["y.linear.w"], [[F(3, 8)]])
    machine.step(pairs([1], [0]))
    close(machine.parameters["y.linear.w"], [[F(3, 16)]])


def test_a_forward_is_no_step() -> None:
    """Nothing moves in a run, neither weights nor windows nor the count of steps."""
    machine = line("by gd(0.1 / (tick + 1)) every step")
    for _ in range(3):
        outs, _ = machine.run(pairs([1], [0]))
        close(outs[0], [[[1]]])
    machine.losses(pairs([1], [0]))
    close(machine.parameters["y.linear.w"], [[1]])
    machine.step(pairs([1], [0]))
    close(machine.parameters["y.linear.w"], [[F(9, 10)]])


def test_tick_in_a_rate_counts_steps() -> None:
    """gd(0.1 / (tick + 1)): 1/10, 1/20, 1/30 of the gradient w."""
    machine = line("by gd(0.1 / (tick + 1)) every step")
    w = F(1)
    for rate in (F(1, 10), F(1, 20), F(1, 30)):
        machine.step(pairs([1], [0]))
        w = w - rate * w
        close(machine.parameters["y.linear.w"], [[w]])
    assert w == F(9, 10) * F(19, 20) * F(29, 30)


def test_tick_in_an_optimizer_counts_updates() -> None:
    """Under `every 2 steps` the second update, at the fourth step, has tick = 1."""
    machine = interpreter(
        """
        optimizer scheduled(lr) over g = -lr / (tick + 1) * g
        model Line over x: [1], t: [1] -> [1] {
          y = x |> linear(1)
          loss = 0.5 * sum((y - t)^2)
          learn * minimizing loss by scheduled(0.5) every 2 steps
          return y
        }
        """
    )
    put(machine, y__linear__w=[[1]])
    #  w = 1, 1 - 1/2, then 1/2 - 1/4 * 1/2
    for expected in (1, F(1, 2), F(1, 2), F(3, 8)):
        machine.step(pairs([1], [0]))
        close(machine.parameters["y.linear.w"], [[expected]])


def test_a_state_that_is_the_weight_as_it_was() -> None:
    """What an optimizer keeps of a weight does not move with it."""
    machine = interpreter(
        """
        optimizer drift(lr) over g, w {
          state before = 0
          u = w - before - lr * g
          before <- w
          return u
        }
        model Line over x: [1], t: [1] -> [1] {
          y = x |> linear(1)
          loss = 0.5 * sum((y - t)^2)
          learn * minimizing loss by drift(0.5) every step
          return y
        }
        """
    )
    put(machine, y__linear__w=[[1]])
    #  step   w      before   g      u = w - before - g / 2     w
    #  0      1      0        1      1/2                        3/2
    #  1      3/2    1        3/2    -1/4                       5/4
    #  2      5/4    3/2      5/4    -7/8                       3/8
    for expected in (F(3, 2), F(5, 4), F(3, 8)):
        machine.step(pairs([1], [0]))
        close(machine.parameters["y.linear.w"], [[expected]])


def test_momentum_and_decay_of_steps() -> None:
    """The optimizer's state goes on from step to step."""
    machine = line("retaining decay(0.5) by momentum(0.5, 0.5) every step")
    #  step   w      gradient of (1, 3)     s = s / 2 - g / 2      w = w / 2 + s
    #  0      1      -2                     1                      3/2
    #  1      3/2    -3/2                   1/2 + 3/4 = 5/4        2
    #  2      2      -1                     5/8 + 1/2 = 9/8        17/8
    for expected in (F(3, 2), 2, F(17, 8)):
        machine.step(pairs([1], [3]))
        close(machine.parameters["y.linear.w"], [[expected]])


def test_two_learns_at_two_paces() -> None:
    """A writes at each step, B at every second from the mean of both gradients, each at the weights of its step."""
    machine = two("learn A minimizing loss by gd(0.5) every step  learn B minimizing loss by gd(0.5) every 2 steps")
    #  step   A     B      gradient of (1, 4)    A             B
    #  0      0     0      -4                    2             0
    #  1      2     0      -2                    3             0 + (4 + 2) / 4 = 3/2
    #  2      3     3/2    1/2                   11/4          3/2
    #  3      11/4  3/2    1/4                   21/8          3/2 - 3/4 / 4 = 21/16
    for a, b in ((2, 0), (3, F(3, 2)), (F(11, 4), F(3, 2)), (F(21, 8), F(21, 16))):
        machine.step(pairs([1], [4]))
        close(machine.parameters["A.w"], [[a]])
        close(machine.parameters["B.w"], [[b]])


def test_a_named_level() -> None:
    """`at slow` is `every 2 steps`."""
    machine = two(
        """level slow = every 2 steps
          learn A minimizing loss by gd(0.5) every step
          learn B minimizing loss by gd(0.5) at slow"""
    )
    for a, b in ((2, 0), (3, F(3, 2)), (F(11, 4), F(3, 2))):
        machine.step(pairs([1], [4]))
        close(machine.parameters["A.w"], [[a]])
        close(machine.parameters["B.w"], [[b]])


def test_within_a_step_every_read_sees_its_start() -> None:
    """B's gradient does not know that A has been written by the learn above, and no tick knows of either."""
    machine = two("learn A minimizing loss by gd(0.5) every step  learn B minimizing loss by gd(0.25) every step")
    #  ticks (1, 4) and (2, 2):  gradients -4 and -4, mean -4
    machine.step(pairs([1, 2], [4, 2]))
    close(machine.parameters["A.w"], [[2]])
    close(machine.parameters["B.w"], [[1]])


def test_learn_star_takes_what_nothing_else_claims() -> None:
    """A has a learn of its own, and the star has B."""
    machine = two("learn A minimizing loss by gd(0.5) every step  learn * minimizing loss by gd(0.1) every step")
    machine.step(pairs([1], [4]))
    close(machine.parameters["A.w"], [[2]])
    close(machine.parameters["B.w"], [[F(4, 10)]])


def test_the_total_norm_of_a_step_spans_the_learn() -> None:
    """Gradients 3 and 4 of two weights of one learn: norm 5. A learn of its own has a norm of its own."""
    text = """
    optimizer normed(lr) over g = -lr * g / total_norm(g)
    model Two over x: [1], z: [1] -> [1] {
      memory A, B = matrix(1)
      y = A(x) + B(z)
      loss = sum(y)
      LEARNS
      return y
    }
    """
    ports = inputs_of({"x": [[3]], "z": [[4]]})
    together = "learn * minimizing loss by normed(1) every step"
    apart = "learn A minimizing loss by normed(1) every step  learn * minimizing loss by normed(1) every step"
    for learns, a, b in ((together, F(-3, 5), F(-4, 5)), (apart, -1, -1)):
        machine = interpreter(text.replace("LEARNS", learns), name="Two")
        put(machine, A__w=[[0]], B__w=[[0]])
        machine.step(ports)
        close(machine.parameters["A.w"], [[a]])
        close(machine.parameters["B.w"], [[b]])


def test_a_step_learns_the_start_of_a_memory_and_the_keys_it_learns_from() -> None:
    """w1 = w0 - k (k w0 - v) / 10 with w0 = 3, k = a x = 2, v = 1: w1 = 2, and the loss w1^2 / 2 has slope 2."""
    machine = interpreter(
        """
        model Meta over x: [1], v: [1] -> [1] {
          k = x |> linear(1)
          memory M = matrix(1)
          learn M : k -> v minimizing l2 by gd(0.1) every token
          y = M(ones(1))
          loss = 0.5 * sum(y^2)
          learn * minimizing loss by gd(0.5) every step
          return y
        }
        """
    )
    put(machine, k__linear__w=[[2]], M__w=[[3]])
    loss, state = machine.step(inputs_of({"x": [[1]], "v": [[1]]}))
    close(loss.detach(), 2)
    #  d w1 / d w0 = 1 - 4/10,  d w1 / d a = -(2 k w0 - v) / 10 = -11/10
    close(machine.parameters["M.w"], [[3 - F(1, 2) * 2 * F(6, 10)]])
    close(machine.parameters["k.linear.w"], [[2 + F(1, 2) * 2 * F(11, 10)]])
    #  the running copy of the sequence is what it was, and the next call goes on from it
    close(machine.weights(state)["M.w"], [[2]])


def test_truncation_goes_by_the_ticks_of_the_sequence() -> None:
    """A step on ticks 3, 4 and 5 of a sequence, `through 2 tokens`: the state carried into tick 4 is data."""
    machine = interpreter(
        """
        model Truncated over x: [1] -> [1] {
          memory P = matrix(1)
          state s: [1] = 0
          s <- s + P(x)
          loss = sum(s)
          learn P minimizing loss by gd(1) every step through 2 tokens
          return s
        }
        """
    )
    put(machine, P__w=[[0]])
    _, state = machine.run(stream(column([1, 2, 3])))
    machine.step(stream(column([4, 5, 6])), state)
    #  slopes of the running sums: 4;  5 (without the cut 4 + 5);  5 + 6
    close(machine.parameters["P.w"], [[F(-(4 + 5 + 11), 3)]])


def test_a_step_goes_on_from_a_carried_state() -> None:
    """A state handed to a step is data: the start is out of reach, the running copy is read."""
    machine = interpreter(
        """
        model Meta over v: [1] -> [1] {
          memory M = matrix(1)
          memory P = matrix(1)
          learn M : ones(1) -> P(v) minimizing dot by gd(1) every token
          y = M(ones(1))
          loss = 0.5 * sum(y^2)
          learn * minimizing loss by gd(0.5) every step
          return y
        }
        """
    )
    put(machine, M__w=[[2]], P__w=[[1]])
    #  step 0: w = 2 + 1 = 3;   slopes: start 3, p 3 * 1;   start = 2 - 3/2 = 1/2, p = 1 - 3/2 = -1/2
    _, state = machine.step(stream([[1]]))
    close(machine.parameters["M.w"], [[F(1, 2)]])
    close(machine.parameters["P.w"], [[F(-1, 2)]])
    #  step 1: w = 3 - 1/2 * 2 = 2;   p = -1/2 - 2 * 2 / 2 = -5/2, and the start stays
    loss, state = machine.step(stream([[2]]), state)
    close(loss.detach(), 2)
    close(machine.weights(state)["M.w"], [[2]])
    close(machine.parameters["M.w"], [[F(1, 2)]])
    close(machine.parameters["P.w"], [[F(-5, 2)]])
