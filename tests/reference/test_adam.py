"""Adam, worked by hand: two moments, bias correction counted by `tick`, per element; on the token clock and the step
clock. The gradients are chosen so that every square root is a whole number, and are fed as they are: the gradient of
the dot-product objective -<k @ w, v> with k = 1 is -v, whatever the weights.

With b1 = 1/3, b2 = 1/2, eps = 1, lr = 2 and gradients 5, 1, -3:
  m = 2/3 * 5 = 10/3;                        / (1 - 1/3) = 5
  m = 10/9 + 2/3 = 16/9;                     / (1 - 1/9) = 16/9 * 9/8 = 2
  m = 16/27 - 2 = -38/27;                    / (1 - 1/27) = -38/26 = -19/13
  v = 25/2;                                  / (1 - 1/2) = 25, root 5
  v = 25/4 + 1/2 = 27/4;                     / (1 - 1/4) = 9,  root 3
  v = 27/8 + 9/2 = 63/8;                     / (1 - 1/8) = 9,  root 3
  u = -2 * 5/6 = -5/3,   -2 * 2/4 = -1,   2 * 19/13 / 4 = 19/26"""

from fractions import Fraction as F

import torch
from reference.worked import close, inputs_of, interpreter, numbers, put, run, run_in_pieces, stream

ADAM = """
optimizer moments(lr, b1, b2, eps) over g {
  state m = 0
  state v = 0
  m <- b1 * m + (1 - b1) * g
  v <- b2 * v + (1 - b2) * g^2
  n = tick + 1
  return -lr * (m / (1 - b1 ^ n)) / (sqrt(v / (1 - b2 ^ n)) + eps)
}
"""
WEIGHTS = [F(-5, 3), F(-8, 3), F(-151, 78)]  # 0 - 5/3;  -5/3 - 1;  -8/3 + 19/26 = (-208 + 57) / 78


def test_adam_of_a_memory() -> None:
    text = (
        ADAM
        + """
    block Line over v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by moments(2, 1 / 3, 1 / 2, 1) every token
      return M(ones(1))
    }"""
    )
    ports = {"v": [[-5], [-1], [3]]}
    expected = [[weight] for weight in WEIGHTS]
    close(run(text, ports, "Line")[0], expected)
    for cuts in ([1], [2]):  # the moments and the count are part of the state
        close(run_in_pieces(interpreter(text, "Line"), ports, cuts)[0], expected)


def test_adam_is_per_element() -> None:
    text = (
        ADAM
        + """
    block Wide over v: [2] -> [2] {
      memory M = matrix(1, out = 2) from zeros
      learn M : ones(1) -> v minimizing dot by moments(2, 1 / 3, 1 / 2, 1) every token
      return M(ones(1))
    }"""
    )
    # The second element's gradients are twice the first's: moments 10, 4, -38/13 over roots 10, 6, 6:
    #   u = -2 * 10/11 = -20/11,   -2 * 4/7 = -8/7,   2 * 38/13 / 7 = 76/91
    #   w = -20/11;   (-140 - 88)/77 = -228/77;   (-228 * 13 + 76 * 11)/1001 = -2128/1001 = -304/143
    expected = [[WEIGHTS[0], F(-20, 11)], [WEIGHTS[1], F(-228, 77)], [WEIGHTS[2], F(-304, 143)]]
    close(run(text, {"v": [[-5, -10], [-1, -2], [3, 6]]}, "Wide")[0], expected)


def test_tick_counts_updates_not_tokens() -> None:
    text = (
        ADAM
        + """
    block Windows over v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : ones(1) -> v minimizing dot by moments(2, 1 / 3, 1 / 2, 1) every 2 tokens
      return M(ones(1))
    }"""
    )
    # windows of gradients 2 + 3 = 5, 2 - 1 = 1, -1 - 2 = -3; writes at the second tick of each
    ports = {"v": [[-2], [-3], [-2], [1], [1], [2]]}
    expected = [[0], [WEIGHTS[0]], [WEIGHTS[0]], [WEIGHTS[1]], [WEIGHTS[1]], [WEIGHTS[2]]]
    close(run(text, ports, "Windows")[0], expected)


MODEL = (
    ADAM
    + """
model Line over x: [1] {
  memory W = matrix(1)
  y = W(x)
  loss = dot(y, next(x))
  learn * minimizing loss by moments(2, 1 / 3, 1 / 2, 1) every step
  return y
}"""
)
# The loss of a tick is -w x next(x), its gradient -x next(x), whatever w; a step takes the mean over its ticks.


def test_adam_of_a_model() -> None:
    machine = interpreter(MODEL)
    put(machine, W__w=[[0]])
    # inputs          gradient                                  loss = gradient * w
    # -2, 4, -1/2     (8 + 2) / 2 = 5, over two ticks           5 * 0
    # -1, 1           1                                         1 * -5/3
    # 3, 1            -3                                        -3 * -8/3
    steps = [([-2, 4, F(-1, 2)], 0), ([-1, 1], F(-5, 3)), ([3, 1], 8)]
    for (xs, wanted_loss), weight in zip(steps, WEIGHTS, strict=True):
        loss, _ = machine.step(inputs_of({"x": [[x] for x in xs]}))
        close(numbers(loss), wanted_loss)
        close(machine.parameters["W.w"], [[weight]])


def test_a_step_is_the_mean_over_all_ticks_of_the_batch() -> None:
    machine = interpreter(MODEL)
    put(machine, W__w=[[0]])
    # pairs (-2, 4), (4, -1/2) and (-3, 2), (2, -1): gradients 8, 2, 6, 2: mean 18/4, so the first update is
    # -2 * (9/2) / (9/2 + 1) = -18/11
    batch = torch.cat([stream([[-2], [4], [F(-1, 2)]]), stream([[-3], [2], [-1]])])
    machine.step({"x": batch})
    close(machine.parameters["W.w"], [[F(-18, 11)]])


def test_adam_with_two_steps_per_write() -> None:
    machine = interpreter(MODEL.replace("every step", "every 2 steps"))
    put(machine, W__w=[[0]])
    # gradients 4, 6 | 0, 2 | -2, -4: means 5, 1, -3; the count of bias correction is that of the writes
    xs = [[-4, 1], [-6, 1], [0, 1], [-2, 1], [2, 1], [4, 1]]
    wanted = [0, WEIGHTS[0], WEIGHTS[0], WEIGHTS[1], WEIGHTS[1], WEIGHTS[2]]
    for pair, weight in zip(xs, wanted, strict=True):
        machine.step(inputs_of({"x": [[x] for x in pair]}))
        close(machine.parameters["W.w"], [[weight]])


def test_decoupled_decay_names_the_weight() -> None:
    """AdamW's form: the optimizer asks for `w`, the weight before the write, and adds -lr * decay * w."""
    text = """
    optimizer decayed(lr, b1, b2, eps, decay) over g, w {
      state m = 0
      state v = 0
      m <- b1 * m + (1 - b1) * g
      v <- b2 * v + (1 - b2) * g^2
      n = tick + 1
      return -lr * ((m / (1 - b1 ^ n)) / (sqrt(v / (1 - b2 ^ n)) + eps) + decay * w)
    }
    model Line over x: [1] {
      memory W = matrix(1)
      y = W(x)
      loss = dot(y, next(x))
      learn W minimizing loss by decayed(2, 1 / 3, 1 / 2, 1, 1 / 4) every step
      return y
    }"""
    # u = -5/3 - 1/2 * 0;          w = -5/3
    # u = -1 + 1/2 * 5/3 = -1/6;   w = -11/6
    # u = 19/26 + 11/12 = (114 + 143)/156 = 257/156;   w = (-286 + 257)/156 = -29/156
    machine = interpreter(text)
    put(machine, W__w=[[0]])
    for pair, weight in [([-5, 1], F(-5, 3)), ([-1, 1], F(-11, 6)), ([3, 1], F(-29, 156))]:
        machine.step(inputs_of({"x": [[x] for x in pair]}))
        close(machine.parameters["W.w"], [[weight]])
