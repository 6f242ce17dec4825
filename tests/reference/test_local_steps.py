"""Local objectives on the step clock: back-propagation is a memory that learns its local error (eqs 8-9)."""

from __future__ import annotations

from fractions import Fraction as F

from reference.worked import close, interpreter, put, tensor

LOCAL = """
model Layer() over x: [1], t: [1] {
  memory W = matrix(1)
  loss = l2(W(x), t)
  learn W : x -> t minimizing l2 by gd(0.5) every step
  return W(x)
}
"""
BATCH = {"x": tensor([[[1], [2]], [[0], [1]]]), "t": tensor([[[1], [0]], [[3], [2]]])}


def test_the_mean_of_the_local_gradients_is_the_gradient_of_the_loss() -> None:
    """w = 1. (w x - t) x over the four ticks: 0, 4, 0, -1. Their mean is 3/4, so w becomes 1 - 3/8 = 5/8."""
    for text in (LOCAL, LOCAL.replace("W : x -> t minimizing l2", "W minimizing loss")):
        machine = interpreter(text)
        put(machine, W__w=[[1]])
        loss, _ = machine.step(BATCH)
        #  (0 + 4 + 9 + 1) / 2 / 4
        close(loss, F(7, 4))
        close(machine.parameters["W.w"], [[F(5, 8)]])


def test_every_2_steps_takes_the_mean_of_both() -> None:
    machine = interpreter(LOCAL.replace("every step", "every 2 steps"))
    put(machine, W__w=[[1]])
    machine.step(BATCH)
    close(machine.parameters["W.w"], [[1]])
    #  the second batch has the gradients 1, 1, 1, 1; the mean of 3/4 and 1 is 7/8
    machine.step({"x": tensor([[[1], [1]], [[1], [1]]]), "t": tensor([[[0], [0]], [[0], [0]]])})
    close(machine.parameters["W.w"], [[F(9, 16)]])
