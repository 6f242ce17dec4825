"""What flows where: inner gradients, outer gradients through inner writes, `detached`, `stop`, `data`, `through`, and
learning from the loss on the token clock; derivatives worked by hand (rules 6, 12, 13 and 16).

The memory is one number w. With l2 and gd(e) a write is w1 = w0 - e k (k w0 - v). All reads are at 1.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest
import torch
from nldsl.compiler.reference import Interpreter
from reference.worked import close, inputs_of, interpreter, numbers, put, run, stream, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def gradient(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """d value / d parameter, zeros where nothing connects them."""
    if not value.requires_grad:
        return torch.zeros_like(parameter)
    (found,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
    return torch.zeros_like(parameter) if found is None else found


def check_slopes(machine: Interpreter, value: torch.Tensor, **expected: Any) -> None:
    """Compare d value / d parameter; M__w stands for M.w, and parameters are matrices of one number."""
    for name, slope in expected.items():
        found = gradient(value, machine.parameters[name.replace("__", ".")])
        assert found.shape == (1, 1)
        assert abs(float(found) - float(slope)) < 1e-12, f"d / d {name}: {float(found)}, by hand {slope}"


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


# --- outer gradients of one write and of two ---


def meta(retaining: str = "decay(keep)", clauses: str = "") -> Interpreter:
    """Key, value and rates are all parameters: k = 2, v = 1, e = 1/10; the memory starts at 3."""
    machine = interpreter(
        f"""
        block Meta over x: [1] -> [1] {{
          k = x |> linear(1)
          v = x |> linear(1)
          e = x |> linear(1)
          keep = x |> linear(1)
          memory M = matrix(1)
          learn M : k -> v minimizing l2 retaining {retaining} by gd(e) every token {clauses}
          return M(ones(1))
        }}
        """
    )
    put(machine, k__linear__w=[[2]], v__linear__w=[[1]], e__linear__w=[[F(1, 10)]], M__w=[[3]])
    return machine


def test_one_write() -> None:
    """w1 = c w0 - e k (k w0 - v) with c = 1/2: 3/2 - 1/10 * 2 * 5 = 1/2."""
    machine = meta()
    put(machine, keep__linear__w=[[F(1, 2)]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[F(1, 2)]]])
    check_slopes(
        machine,
        outs[0][0, 0, 0],
        M__w=F(1, 10),  # c - e k^2 = 1/2 - 4/10
        k__linear__w=F(-11, 10),  # -e (2 k w0 - v) = -(12 - 1) / 10
        v__linear__w=F(1, 5),  # e k
        e__linear__w=-10,  # -k (k w0 - v)
        keep__linear__w=3,  # w0
    )


def test_one_write_detached() -> None:
    """The gradient is data: rates and retention keep their gradients, key and value have none."""
    machine = meta(clauses="detached")
    put(machine, keep__linear__w=[[F(1, 2)]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[F(1, 2)]]])
    check_slopes(
        machine, outs[0][0, 0, 0], M__w=F(1, 2), k__linear__w=0, v__linear__w=0, e__linear__w=-10, keep__linear__w=3
    )


def test_two_writes() -> None:
    """The second write, at w1 = 1/2: g = 2 (1 - 1) = 0, so w2 = 1/4; the chain rule by hand."""
    machine = meta()
    put(machine, keep__linear__w=[[F(1, 2)]])
    outs, _ = machine.run(stream([[1], [1]]))
    close(outs[0], [[[F(1, 2)], [F(1, 4)]]])
    #  d w2 / d w1 = 1/10 again; what the second write adds: k: -(2 k w1 - v) / 10 = -1/10, v: 1/5, e: 0, c: w1
    check_slopes(
        machine,
        outs[0][0, 1, 0],
        M__w=F(1, 100),
        k__linear__w=F(-11, 100) - F(1, 10),
        v__linear__w=F(1, 50) + F(1, 5),
        e__linear__w=-1,
        keep__linear__w=F(3, 10) + F(1, 2),
    )


def test_a_write_that_erases() -> None:
    """w1 = w0 - r k^2 w0 - e k (k w0 - v), r = 1/4: 3 - 3 - 1 = -1."""
    machine = meta("erase(1, keep)")
    put(machine, keep__linear__w=[[F(1, 4)]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[-1]]])
    check_slopes(
        machine,
        outs[0][0, 0, 0],
        M__w=F(-2, 5),  # 1 - r k^2 - e k^2
        k__linear__w=-3 - F(11, 10),  # -2 r k w0 and as before
        keep__linear__w=-12,  # -k^2 w0
    )


def test_a_write_that_erases_detached() -> None:
    """Gradient and key are data; the retention's own factors are not: d w1 / d w0 = 1 - r k^2 = 0."""
    machine = meta("erase(1, keep)", "detached")
    put(machine, keep__linear__w=[[F(1, 4)]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[-1]]])
    check_slopes(
        machine, outs[0][0, 0, 0], M__w=0, k__linear__w=0, v__linear__w=0, e__linear__w=-10, keep__linear__w=-12
    )


def test_stop_blocks_outer_gradients_of_a_value() -> None:
    """Of the key alone: everything else flows as before."""
    machine = interpreter(
        """
        block Meta over x: [1] -> [1] {
          k = stop(x |> linear(1))
          v = x |> linear(1)
          memory M = matrix(1)
          learn M : k -> v minimizing l2 by gd(0.1) every token
          return M(ones(1))
        }
        """
    )
    put(machine, k__linear__w=[[2]], v__linear__w=[[1]], M__w=[[3]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[2]]])
    check_slopes(machine, outs[0][0, 0, 0], M__w=F(3, 5), k__linear__w=0, v__linear__w=F(1, 5))


def test_data_blocks_no_outer_gradient() -> None:
    """data(k) in a key changes nothing for those outside: d w1 / d k = -11/10, d w1 / d v = 1/5."""
    machine = interpreter(
        """
        block Meta over x: [1] -> [1] {
          k = x |> linear(1)
          v = x |> linear(1)
          memory M = matrix(1)
          learn M minimizing l2(self(data(k)), data(v)) by gd(0.1) every token
          return M(ones(1))
        }
        """
    )
    put(machine, k__linear__w=[[2]], v__linear__w=[[1]], M__w=[[3]])
    outs, _ = machine.run(stream([[1]]))
    close(outs[0], [[[2]]])
    check_slopes(machine, outs[0][0, 0, 0], M__w=F(3, 5), k__linear__w=F(-11, 10), v__linear__w=F(1, 5))


# --- the inner gradient: which self it sees ---

#  w0 = 3, k = 2, v = 1/2, e = 1/10.
#  The target self(v) = v w0 as data:  g = k (k w0 - v w0) = 2 (6 - 3/2) = 9,  w1 = 3 - 9/10 = 21/10
#     d w1 / d w0 = 1 - e k (k - v) = 7/10,  / d k = -e (2 k w0 - v w0) = -21/20,  / d v = e k w0 = 3/5
AS_DATA = (F(21, 10), F(7, 10), F(-21, 20), F(3, 5))
#  Both outside data:  g = (k - v)^2 w0 = 27/4,  w1 = 3 - 27/40
#     d w1 / d w0 = 1 - 9/40,  / d k = -2 e (k - v) w0 = -9/10,  / d v = 9/10
BOTH = (F(93, 40), F(31, 40), F(-9, 10), F(9, 10))
#  Only the target:  the answer k w0 as data, g = v (v w0 - k w0) = 1/2 * -9/2 = -9/4,  w1 = 3 + 9/40
#     d w1 / d w0 = 1 - e v (v - k) = 1 + 3/40,  / d k = e v w0 = 3/20,  / d v = -e (2 v w0 - k w0) = 3/10
TARGET = (F(129, 40), F(43, 40), F(3, 20), F(3, 10))


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        ("learn M : k -> self(v) minimizing l2", AS_DATA),
        ("learn M : k -> M(v) minimizing l2", AS_DATA),
        ("learn M minimizing l2(self(k), data(self(v)))", AS_DATA),
        ("learn M minimizing l2(self(data(k)), data(self(v)))", AS_DATA),
        ("learn M minimizing l2(self(k), M(v))", AS_DATA),
        ("learn M minimizing l2(self(k), self(v))", BOTH),
        ("learn M minimizing l2(data(self(k)), self(v))", TARGET),
    ],
)
def test_each_self_outside_data_carries_the_inner_gradient(learn: str, expected: tuple[F, F, F, F]) -> None:
    """And everything else is data to it, and still open to outer gradients."""
    machine = interpreter(
        f"""
        block Inner over x: [1] -> [1] {{
          k = x |> linear(1)
          v = x |> linear(1)
          memory M = matrix(1)
          {learn} by gd(0.1) every token
          return M(ones(1))
        }}
        """
    )
    put(machine, k__linear__w=[[2]], v__linear__w=[[F(1, 2)]], M__w=[[3]])
    outs, _ = machine.run(stream([[1]]))
    value, by_start, by_key, by_value = expected
    close(outs[0], [[[value]]])
    check_slopes(machine, outs[0][0, 0, 0], M__w=by_start, k__linear__w=by_key, v__linear__w=by_value)


@pytest.mark.parametrize(
    ("learn", "value", "slope"),
    [
        #  the key k w0 = 2 is data:   g = 2 (4 - 3) = 2;   as a function of w0, g = w0^3 - 3 w0, slope 12 - 3 = 9
        ("learn M : self(k) -> v minimizing l2", F(9, 5), F(1, 10)),
        #  both selves count:  y = k w0^2, g = 2 k w0 (y - v) = 4;   2 w0^3 - 6 w0, slope 24 - 6 = 18
        ("learn M minimizing l2(self(self(k)), v)", F(8, 5), F(-4, 5)),
    ],
)
def test_a_memory_that_reads_itself(learn: str, value: F, slope: F) -> None:
    """w0 = 2, k = 1, v = 3: the key of the short form is data."""
    machine = interpreter(
        f"""
        block Inner over k: [1], v: [1] -> [1] {{
          memory M = matrix(1)
          {learn} by gd(0.1) every token
          return M(ones(1))
        }}
        """
    )
    put(machine, M__w=[[2]])
    outs, _ = machine.run(inputs_of({"k": [[1]], "v": [[3]]}))
    close(outs[0], [[[value]]])
    check_slopes(machine, outs[0][0, 0, 0], M__w=slope)


def test_another_memory_inside_an_objective() -> None:
    """y = n k w through N: g = n k (n k w0 - v) = 3 (3 - 1) = 6, and N itself does not move."""
    machine = interpreter(
        """
        block Inner over k: [1], v: [1] -> [1], [1] {
          memory M, N = matrix(1)
          learn M minimizing l2(N(self(k)), v) by gd(0.1) every token
          return M(ones(1)), N(ones(1))
        }
        """
    )
    put(machine, M__w=[[1]], N__w=[[3]])
    outs, _ = machine.run(inputs_of({"k": [[1]], "v": [[1]]}))
    close(outs[0], [[[F(2, 5)]]])
    close(outs[1], [[[3]]])
    #  d w1 / d w0 = 1 - n^2 / 10;   d w1 / d n = -(2 n w0 - v) / 10
    check_slopes(machine, outs[0][0, 0, 0], M__w=F(1, 10), N__w=F(-1, 2))


# --- outer gradients under windows and holds, and across calls ---


@pytest.mark.parametrize(
    ("pace", "value", "slope"),
    [
        #  w1 = 2 - 1/4, w2 = 7/4 - 2 (7/2 - 1) / 4 = 1/2;   slope (1 - 1/4) (1 - 1)
        ("every token", F(1, 2), 0),
        #  both gradients at 2:  w2 = 2 - (1 + 6) / 4 = 1/4;   slope 1 - 1/4 - 1
        ("every token hold gradient for 2 tokens", F(1, 4), F(-1, 4)),
        ("every 2 tokens", F(1, 4), F(-1, 4)),
        #  the same values, and only w0 itself has a gradient
        ("every 2 tokens detached", F(1, 4), 1),
    ],
)
def test_outer_gradients_of_windows_and_holds(pace: str, value: F, slope: F) -> None:
    """w0 = 2, e = 1/4, pairs (1, 1) and (2, 1)."""
    machine = interpreter(
        f"""
        block Held over k: [1], v: [1] -> [1] {{
          memory M = matrix(1)
          learn M : k -> v minimizing l2 by gd(0.25) {pace}
          return M(ones(1))
        }}
        """
    )
    put(machine, M__w=[[2]])
    outs, _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([1, 1])}))
    close(outs[0][0, 1], [value])
    check_slopes(machine, outs[0][0, 1, 0], M__w=slope)


def test_outer_gradients_pass_a_false_tick_by() -> None:
    """On a false tick the weights stand still, and so do their gradients: 1 - 1/4 from the first tick alone."""
    machine = interpreter(
        """
        block Gated over k: [1], v: [1], gate: [] -> [1] {
          memory M = matrix(1)
          learn M : k -> v minimizing l2 by gd(0.25) every token when gate > 0
          return M(ones(1))
        }
        """
    )
    put(machine, M__w=[[2]])
    outs, _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([1, 1]), "gate": [1, 0]}))
    close(outs[0], [[[F(7, 4)], [F(7, 4)]]])
    check_slopes(machine, outs[0][0, 1, 0], M__w=F(3, 4))


def test_outer_gradients_reach_the_weights_of_a_window() -> None:
    """w = w0 - (e0 g0 + e1 g1) / 4 with e = p x: the slope in p is -(x0 g0 + x1 g1) / 4."""
    machine = interpreter(
        """
        block Weighted over k: [1], v: [1], x: [1] -> [1] {
          memory M = matrix(1)
          e = x |> linear(1)
          learn M : k -> v minimizing l2 by gd(0.25) every 2 tokens weighted e
          return M(ones(1))
        }
        """
    )
    put(machine, M__w=[[2]], e__linear__w=[[2]])
    outs, _ = machine.run(inputs_of({"k": column([1, 2]), "v": column([1, 1]), "x": column([1, 3])}))
    #  g = 1 and 6, e = 2 and 6:  2 - 38/4;  slope in p: -(1 + 18) / 4;  slope in w0: 1 - (2 * 1 + 6 * 4) / 4
    close(outs[0][0, 1], [F(-15, 2)])
    check_slopes(machine, outs[0][0, 1, 0], e__linear__w=F(-19, 4), M__w=F(-11, 2))


def test_outer_gradients_through_momentum() -> None:
    """w2 = w0 + s1 + s2, s2 = b s1 - e g2, pairs (1, 1) and (1, 1): the optimizer's state carries gradients, too."""
    machine = interpreter(
        """
        block Heavy over x: [1] -> [1] {
          b = x |> linear(1)
          memory M = matrix(1)
          learn M : x -> x minimizing l2 by momentum(0.25, b) every token
          return M(x)
        }
        """
    )
    put(machine, M__w=[[3]], b__linear__w=[[F(1, 2)]])
    outs, _ = machine.run(stream([[1], [1]]))
    #  g1 = 2, s1 = -1/2, w1 = 5/2;   g2 = 3/2, s2 = -1/4 - 3/8 = -5/8, w2 = 15/8
    close(outs[0][0], [[F(5, 2)], [F(15, 8)]])
    #  slopes in w0:  s1: -1/4, w1: 3/4, s2: -1/8 - 3/16 = -5/16, w2: 3/4 - 5/16;   in b:  s2: s1 = -1/2
    check_slopes(machine, outs[0][0, 1, 0], M__w=F(7, 16), b__linear__w=F(-1, 2))


def test_outer_gradients_through_attention() -> None:
    """Keys a x, values p x: with a = 0 all weights are equal, and the slope in a is the covariance of x and value."""
    machine = interpreter(
        """
        block Attending over x: [1] -> [1] {
          k = x |> linear(1)
          v = x |> linear(1)
          memory A = attention()
          learn A : k -> v every token
          return A(ones(1))
        }
        """
    )
    put(machine, k__linear__w=[[0]], v__linear__w=[[2]])
    outs, _ = machine.run(stream([[1], [3]]))
    close(outs[0][0], [[2], [4]])
    #  values 2 and 6:  mean(x v) - mean(x) mean(v) = 10 - 8;   in p: mean(x)
    check_slopes(machine, outs[0][0, 1, 0], k__linear__w=2, v__linear__w=2)


def test_state_handed_to_a_call_is_data() -> None:
    """The second call's answers know the start no more, and the projections of its own ticks still."""
    machine = meta()
    put(machine, keep__linear__w=[[F(1, 2)]])
    _, state = machine.run(stream([[1]]))
    outs, _ = machine.run(stream([[1]]), state)
    close(outs[0], [[[F(1, 4)]]])
    check_slopes(
        machine,
        outs[0][0, 0, 0],
        M__w=0,
        k__linear__w=F(-1, 10),
        v__linear__w=F(1, 5),
        e__linear__w=0,
        keep__linear__w=F(1, 2),
    )


# --- `through N tokens` on the step clock ---


@pytest.mark.parametrize(
    ("through", "slope"),
    [
        #  x = 1, 2, 3, 4; the loss of a tick is the running sum of p x:  1 + 3 + 6 + 10 = 20
        ("", F(20, 4)),
        #  the sum carried into tick 2 is data:  1 + 3 + 3 + 7 = 14
        ("through 2 tokens", F(14, 4)),
        #  into tick 3:  1 + 3 + 6 + 4 = 14
        ("through 3 tokens", F(14, 4)),
        #  into every tick:  1 + 2 + 3 + 4 = 10
        ("through 1 tokens", F(10, 4)),
        ("through 4 tokens", F(20, 4)),
    ],
)
def test_truncation_of_a_state(through: str, slope: F) -> None:
    """States carried across ticks that are multiples of N are data to the learn that says so."""
    machine = interpreter(
        f"""
        model Truncated over x: [1] -> [1] {{
          memory P = matrix(1)
          state s: [1] = 0
          s <- s + P(x)
          loss = sum(s)
          learn P minimizing loss by gd(1) every step {through}
          return s
        }}
        """
    )
    put(machine, P__w=[[0]])
    machine.step(stream(column([1, 2, 3, 4])))
    close(machine.parameters["P.w"], [[-slope]])


def test_truncation_is_of_each_learn() -> None:
    """Of two learns of one loss, one truncates and the other does not."""
    machine = interpreter(
        """
        model Truncated over x: [1] -> [1] {
          memory P, R = matrix(1)
          state s: [1] = 0
          s <- s + P(x) + R(x)
          loss = sum(s)
          learn P minimizing loss by gd(1) every step through 2 tokens
          learn R minimizing loss by gd(1) every step
          return s
        }
        """
    )
    put(machine, P__w=[[0]], R__w=[[0]])
    machine.step(stream(column([1, 2, 3, 4])))
    close(machine.parameters["P.w"], [[F(-14, 4)]])
    close(machine.parameters["R.w"], [[-5]])


@pytest.mark.parametrize(
    ("through", "projection", "start"),
    [
        ("", F(20, 4), 1),
        ("through 2 tokens", F(14, 4), F(2, 4)),  # the start is seen from ticks 0 and 1
    ],
)
def test_truncation_of_a_memory(through: str, projection: F, start: F) -> None:
    """The memory gains p x at each token, from a learned start: both are learned through its writes."""
    machine = interpreter(
        f"""
        model Truncated over x: [1] -> [1] {{
          memory M, P = matrix(1)
          learn M : ones(1) -> P(x) minimizing dot by gd(1) every token
          y = M(ones(1))
          loss = sum(y)
          learn * minimizing loss by gd(1) every step {through}
          return y
        }}
        """
    )
    put(machine, P__w=[[0]], M__w=[[0]])
    machine.step(stream(column([1, 2, 3, 4])))
    close(machine.parameters["P.w"], [[-projection]])
    close(machine.parameters["M.w"], [[-start]])


# --- learning from the loss on the token clock ---


def dynamic(learns: str) -> str:
    """The answer is A(1) + B(1), the loss half its squared distance to t."""
    return f"""
    model Dynamic over t: [1] -> [1] {{
      memory A, B = matrix(1) from zeros
      y = A(ones(1)) + B(ones(1))
      loss = 0.5 * sum((y - t)^2)
      {learns}
      return y
    }}
    """


ONE_LEVEL = dynamic("learn A, B minimizing loss by gd(0.25) every 2 tokens")
DYNAMIC_T = {"t": column([1, 2, 3, 4, 5, 6])}
#  segment   A = B    y      sum of y - t      each moves by -sum / 4
#  t0 t1     0        0      -3                3/4
#  t2 t3     3/4      3/2    3 - 7 = -4        1
#  t4 t5     7/4      7/2
DYNAMIC_Y = column([0, 0, F(3, 2), F(3, 2), F(7, 2), F(7, 2)])


def test_the_loss_of_a_window_is_summed() -> None:
    """The write lands between ticks: tick 2 is the first to see it."""
    close(run(ONE_LEVEL, DYNAMIC_T)[0], DYNAMIC_Y)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_an_open_segment_goes_on_in_the_next_call(cut: int) -> None:
    close(run_in_two(ONE_LEVEL, DYNAMIC_T, cut)[0], DYNAMIC_Y)


def test_each_sequence_learns_from_its_own_loss() -> None:
    """The loss is summed per sequence: the second one's targets are 0 and 4, and its sum is -4."""
    outs, _ = interpreter(ONE_LEVEL).run(tensor([column([1, 2, 9]), column([0, 4, 9])]))
    close(outs[0], [column([0, 0, F(3, 2)]), column([0, 0, 2])])


def test_slower_levels_sum_their_segments() -> None:
    """Each segment's gradient is taken at the weights of its time."""
    text = dynamic(
        """learn A minimizing loss by gd(0.5) every 2 tokens
      learn B minimizing loss by gd(0.5) every 4 tokens"""
    )
    #  segment   A      B     y      gradient           A                   B
    #  t0 t1     0      0     0      -3                 3/2
    #  t2 t3     3/2    0     3/2    3 - 7 = -4         7/2                 (3 + 4) / 2 = 7/2
    #  t4 t5     7/2    7/2   7      14 - 11 = 3        7/2 - 3/2 = 2
    #  t6        2      7/2   11/2
    ports = {"t": column([1, 2, 3, 4, 5, 6, 7])}
    expected = column([0, 0, F(3, 2), F(3, 2), 7, 7, F(11, 2)])
    close(run(text, ports)[0], expected)
    for cut in (1, 2, 3, 4, 5, 6):
        close(run_in_two(text, ports, cut)[0], expected)


NEXT = """
model Dynamic over x: [1] -> [1] {
  memory A = matrix(1) from zeros
  y = A(ones(1))
  loss = 0.5 * sum((y - next(x))^2)
  learn A minimizing loss by gd(0.5) every 2 tokens
  return y
}
"""
#  segment   targets   A      sum of A - target      A after
#  t0 t1     1, 2      0      -3                     3/2
#  t2 t3     3, 4      3/2    3 - 7 = -4             7/2
NEXT_X = {"x": column([9, 1, 2, 3, 4, 5])}
NEXT_Y = column([0, 0, F(3, 2), F(3, 2), F(7, 2), F(7, 2)])


def test_the_write_waits_for_the_segments_last_target() -> None:
    """The target of tick 1 is the input of tick 2, known before tick 2 reads."""
    close(run(NEXT, NEXT_X)[0], NEXT_Y)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_a_target_may_come_with_the_next_call(cut: int) -> None:
    """A call that ends with a segment leaves the write to the next call's first token."""
    close(run_in_two(NEXT, NEXT_X, cut)[0], NEXT_Y)


def test_momentum_and_decay_act_once_per_segment() -> None:
    text = dynamic("learn A, B minimizing loss retaining decay(0.5) by momentum(0.25, 0.5) every 2 tokens")
    #  t0 t1: sum -3, s = 3/4, A = 3/4, y = 3/2
    #  t2 t3: sum -4, s = 3/8 + 1 = 11/8, A = 3/8 + 11/8 = 7/4, y = 7/2
    #  t4 t5: sum 7 - 11 = -4, s = 11/16 + 1 = 27/16, A = 7/8 + 27/16 = 41/16, y = 41/8
    ports = {"t": column([1, 2, 3, 4, 5, 6, 7])}
    close(run(text, ports)[0], column([0, 0, F(3, 2), F(3, 2), F(7, 2), F(7, 2), F(41, 8)]))


def learning_to_write(learn: str) -> Interpreter:
    """F makes the keys of M: M gains f v at each token; the answer is M after its write. f starts at 1."""
    machine = interpreter(
        f"""
        model Segments over v: [1], t: [1] -> [1] {{
          memory F = matrix(1)
          memory M = matrix(1) from zeros
          learn M : F(ones(1)) -> v minimizing dot by gd(1) every token
          y = M(ones(1))
          loss = 0.5 * sum((y - t)^2)
          learn F minimizing loss by gd(0.5) every 2 tokens {learn}
          learn * minimizing loss by gd(0.1) every step
          return y
        }}
        """
    )
    put(machine, F__w=[[1]])
    return machine


SEGMENT_PORTS = {"v": column([1] * 7), "t": column([2, 2, 3, 3, 1, 1, 0])}


def test_gradients_flow_through_the_writes_of_a_segment_and_stop_at_its_opening() -> None:
    """M is 1 and 2 in the first segment: d M / d f is 1, then 2, for M's own writes count; and so in each segment."""
    #  segment   f       M after the writes     y - t          gradient = 1 * first + 2 * second     f after
    #  t0 t1     1       1, 2                   -1, 0          -1                                    3/2
    #  t2 t3     3/2     7/2, 5                 1/2, 2         9/2                                   -3/4
    #  t4 t5     -3/4    17/4, 7/2              13/4, 5/2      33/4                                  -39/8
    #  t6        -39/8   -11/8
    outs, _ = learning_to_write("").run(inputs_of(SEGMENT_PORTS))
    close(outs[0][0], column([1, 2, F(7, 2), 5, F(17, 4), F(7, 2), F(-11, 8)]))


#  `through 4 tokens`: the last four reads of F count, each at the f of its time; the memory carried into the first
#  of these ticks is data. In the second segment d M / d f is 3 and 4, and in the third again.
#  segment   f       M after the writes     y - t          gradient                     f after
#  t0 t1     1       1, 2                   -1, 0          -1                           3/2
#  t2 t3     3/2     7/2, 5                 1/2, 2         3/2 + 8 = 19/2               -13/4
#  t4 t5     -13/4   7/4, -3/2              3/4, -5/2      9/4 - 10 = -31/4             5/8
#  t6        5/8     -7/8
THROUGH_Y = column([1, 2, F(7, 2), 5, F(7, 4), F(-3, 2), F(-7, 8)])


def test_through_reaches_back_beyond_the_segment() -> None:
    """Reading: F's own earlier writes are data, its reads in the last N tokens are not."""
    outs, _ = learning_to_write("through 4 tokens").run(inputs_of(SEGMENT_PORTS))
    close(outs[0][0], THROUGH_Y)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6])
def test_through_goes_on_in_the_next_call(cut: int) -> None:
    """A cut between calls changes nothing: the state holds what the reach needs."""
    machine = learning_to_write("through 4 tokens")
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in SEGMENT_PORTS.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in SEGMENT_PORTS.items()}), state)
    close(numbers(first[0][0]) + numbers(second[0][0]), THROUGH_Y)


@pytest.mark.parametrize(
    ("detached", "slope"),
    [
        #  f = 1; f1 = f - (2 f - 3) / 4 = f / 2 + 3/4 = 5/4.  The losses' slopes in their own weights:
        #  ticks 0 and 1: f - 1 = 0 and f - 2 = -1;  ticks 2 and 3: f1 - 3 = -7/4 and f1 - 4 = -11/4
        #  with d f1 / d f = 1/2:  (-1 - 9/4) / 4
        ("", F(-13, 16)),
        #  with d f1 / d f = 1, for the gradient is data:  (-1 - 9/2) / 4
        ("detached", F(-11, 8)),
    ],
)
def test_the_start_is_learned_through_the_segments(detached: str, slope: F) -> None:
    """One training step of the start of a memory that learns from the same loss."""
    machine = interpreter(
        f"""
        model Dynamic over t: [1] -> [1] {{
          memory A = matrix(1)
          y = A(ones(1))
          loss = 0.5 * sum((y - t)^2)
          learn A minimizing loss by gd(0.25) every 2 tokens {detached}
          learn * minimizing loss by gd(1) every step
          return y
        }}
        """
    )
    put(machine, A__w=[[1]])
    loss, _ = machine.step(stream(column([1, 2, 3, 4])))
    #  (0 + 1 + 49/16 + 121/16) / 2 / 4
    close(loss.detach(), (1 + F(49 + 121, 16)) / 8)
    close(machine.parameters["A.w"], [[1 - slope]])
