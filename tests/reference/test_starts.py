"""What a memory starts from: `from zeros`, `from Other`, `from f(start)`, worked by hand (rules 7 and 16).

The memory is one number w. With l2 the gradient of a pair is k (k w - v), with dot it is -k v. All reads are at 1.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import torch
from reference.worked import close, inputs_of, interpreter, numbers, put, run, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def gradient(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """d value / d parameter, zeros where nothing connects them."""
    if not value.requires_grad:
        return torch.zeros_like(parameter)
    (found,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
    return torch.zeros_like(parameter) if found is None else found


def starting(start: str) -> str:
    """w adds the products k v, from the given start; read above and below the learn."""
    return f"""
    block Starting over k: [1], v: [1] -> [1], [1] {{
      memory M = matrix(1) {start}
      above = M(ones(1))
      learn M : k -> v minimizing dot by gd(1) every token
      return above, M(ones(1))
    }}
    """


PORTS = {"k": column([1, 1, 1]), "v": column([1, 2, 4])}


def test_from_zeros_is_no_parameter() -> None:
    machine = interpreter(starting("from zeros"))
    assert "M.w" not in machine.parameters
    (above, below), _ = machine.run(inputs_of(PORTS))
    close(above[0], column([0, 1, 3]))
    close(below[0], column([1, 3, 7]))


def test_a_learned_start_is_a_parameter() -> None:
    """Every sequence starts from it, and the parameter itself does not move."""
    machine = interpreter(starting(""))
    put(machine, M__w=[[5]])
    v = tensor([column([1, 2, 4]), column([10, 20, 40])])
    (above, below), _ = machine.run({"k": tensor([column([1] * 3)] * 2), "v": v})
    close(above, [column([5, 6, 8]), column([5, 15, 35])])
    close(below, [column([6, 8, 12]), column([15, 35, 75])])
    close(machine.parameters["M.w"], [[5]])


def test_from_a_function_of_the_start() -> None:
    """The parameter is 4; the memory starts from half of it, at each reset again."""
    machine = interpreter(starting("from 0.5 * start reset every 2 tokens"))
    put(machine, M__w=[[4]])
    (above, below), _ = machine.run(inputs_of(PORTS))
    close(above[0], column([2, 3, 2]))
    close(below[0], column([3, 5, 6]))
    #  d start / d parameter = 1/2, before and after the reset
    close(gradient(below[0, 0, 0], machine.parameters["M.w"]), [[F(1, 2)]])
    close(gradient(below[0, 2, 0], machine.parameters["M.w"]), [[F(1, 2)]])


def test_from_a_function_of_the_start_is_leaf_by_leaf() -> None:
    """Both matrices of a deep memory pass through f, each by itself."""
    text = """
    net deep over x: [1] -> [1] {
      param a: [1, 1] = 1
      param b: [1, 1] = 2
      return x @ a @ b
    }
    block Starting over x: [1] -> [1] {
      memory D = deep from start^2 + 1
      D <- 2 * D
      return D(x)
    }
    """
    #  a = 1 + 1 = 2, b = 4 + 1 = 5;   then 4 and 10, 8 and 20
    close(run(text, {"x": column([1, 1])})[0], column([40, 160]))


def test_from_another_memory_that_never_learns() -> None:
    """The other is a parameter, this one is a copy of it; gradients reach the parameter through the copy."""
    text = starting("from S").replace("memory M", "memory S = matrix(1)  memory M")
    machine = interpreter(text)
    assert "M.w" not in machine.parameters
    put(machine, S__w=[[5]])
    (above, below), _ = machine.run(inputs_of(PORTS))
    close(above[0], column([5, 6, 8]))
    close(below[0], column([6, 8, 12]))
    close(gradient(below[0, 2, 0], machine.parameters["S.w"]), [[1]])


COPYING = """
block Starting over k: [1], v: [1], u: [1] -> [1], [1], [1] {
  memory S = matrix(1)
  memory M = matrix(1) from S reset every 2 tokens
  above = M(ones(1))
  learn S : k -> v minimizing l2 by gd(0.5) every token
  learn M : k -> u minimizing dot by gd(1) every token
  return S(ones(1)), above, M(ones(1))
}
"""


def test_from_another_memory_copies_its_running_value() -> None:
    """At each start of M, S's value as it stands then: before S's write of that tick, for the reset comes first."""
    #  tick   S before   S after (towards 2, half way)   M at the start   M after (+ u)
    #  t0     0          1                               0                1
    #  t1     1          3/2                             1                2
    #  t2     3/2        7/4                             3/2 (copied)     5/2
    #  t3     7/4        15/8                            5/2              7/2
    #  t4     15/8       31/16                           15/8 (copied)    23/8
    machine = interpreter(COPYING)
    put(machine, S__w=[[0]])
    ports = {"k": column([1] * 5), "v": column([2] * 5), "u": column([1] * 5)}
    outs, _ = machine.run(inputs_of(ports))
    close(outs[0][0], column([1, F(3, 2), F(7, 4), F(15, 8), F(31, 16)]))
    close(outs[1][0], column([0, 1, F(3, 2), F(5, 2), F(15, 8)]))
    close(outs[2][0], column([1, 2, F(5, 2), F(7, 2), F(23, 8)]))
    #  S contracts towards 2 by a half per token: d S / d start is 1, 1/2, 1/4, 1/8, 1/16 before ticks 0 to 4
    for tick, slope in enumerate([1, 1, F(1, 4), F(1, 4), F(1, 16)]):
        close(gradient(outs[2][0, tick, 0], machine.parameters["S.w"]), [[slope]])


def test_the_copy_is_made_again_after_a_cut() -> None:
    """A call that begins at a reset's tick copies from the carried S."""
    machine = interpreter(COPYING)
    put(machine, S__w=[[0]])
    pieces, state = [], None
    for ticks in (1, 1, 2, 1):
        ports = {"k": column([1] * ticks), "v": column([2] * ticks), "u": column([1] * ticks)}
        outs, state = machine.run(inputs_of(ports), state)
        pieces += numbers(outs[2][0])
    close(pieces, column([1, 2, F(5, 2), F(7, 2), F(23, 8)]))


def test_a_chain_of_starts() -> None:
    """At the first tick, M starts from S's start, which is a function of S's parameter."""
    text = """
    block Starting over x: [1] -> [1] {
      memory S = matrix(1) from start + 1
      memory M = matrix(1) from S
      M <- M + 10
      S <- 2 * S
      return M(x)
    }
    """
    machine = interpreter(text)
    put(machine, S__w=[[2]])
    close(machine.run(inputs_of({"x": column([1, 1])}))[0][0][0], column([13, 23]))


def test_a_retention_may_read_the_start() -> None:
    """Pulled half way back to where it started at each write; the start is what the memory started from."""
    text = """
    retention homing(keep) over w, u, start = start + keep * (w - start) + u
    """ + starting("").replace("dot", "dot retaining homing(0.5)")
    machine = interpreter(text, name="Starting")
    put(machine, M__w=[[5]])
    (_, below), _ = machine.run(inputs_of(PORTS))
    #  5 + 0 + 1 = 6;   5 + 1/2 + 2 = 15/2;   5 + 5/4 + 4 = 41/4
    close(below[0], column([6, F(15, 2), F(41, 4)]))
    #  w - start depends on the values alone: d w / d parameter = 1
    close(gradient(below[0, 2, 0], machine.parameters["M.w"]), [[1]])


def test_the_start_of_a_retention_is_the_one_after_f() -> None:
    """Reading: with `from 0.5 * start`, a retention's `start` is the half, where the memory really started."""
    text = """
    retention homing(keep) over w, u, start = start + keep * (w - start) + u
    """ + starting("from 0.5 * start").replace("dot", "dot retaining homing(0.5)")
    machine = interpreter(text, name="Starting")
    put(machine, M__w=[[10]])
    (_, below), _ = machine.run(inputs_of(PORTS))
    close(below[0], column([6, F(15, 2), F(41, 4)]))


def test_the_start_of_a_retention_is_the_last_one() -> None:
    """After a reset from another memory, the start is what was copied then."""
    text = """
    retention homing(keep) over w, u, start = start + keep * (w - start) + u
    block Starting over v: [1] -> [1] {
      memory S = matrix(1)
      memory M = matrix(1) from S reset every 2 tokens
      S <- 2 * S
      learn M : ones(1) -> v minimizing dot retaining homing(0) by gd(1) every token
      return M(ones(1))
    }
    """
    machine = interpreter(text)
    put(machine, S__w=[[1]])
    #  keep = 0: M = start + v.   S before the ticks: 1, 2, 4, 8;   M starts from 1 at t0 and from 4 at t2
    close(machine.run(inputs_of({"v": column([1, 2, 3, 4])}))[0][0][0], column([2, 3, 7, 8]))


def test_each_head_has_its_own_start() -> None:
    """One parameter with the heads as its first axis."""
    text = """
    block Starting over x: [2] -> [2] {
      memory M[2] = matrix(1)
      return M(x |> split(2)) |> merge
    }
    """
    machine = interpreter(text)
    put(machine, M__w=[[[3]], [[5]]])
    close(machine.run(inputs_of({"x": [[1, 1], [2, 3]]}))[0][0][0], [[3, 5], [6, 15]])
