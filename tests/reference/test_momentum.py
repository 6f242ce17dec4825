"""Momentum (Nested Learning eq 33, rate inside) and delta momentum (eq 49, typed), worked by hand: as optimizers of a
memory on the token clock and as optimizers of a model on the step clock."""

from fractions import Fraction as F

from reference.worked import close, inputs_of, interpreter, numbers, put, run, run_in_pieces, run_with_weights

HEAVY = """
optimizer heavy(lr, beta) over g {
  state s = 0
  s <- beta * s - lr * g
  return s
}
"""
DELTA_HEAVY = """
optimizer delta_heavy(lr, keep) over g: [n, m] {
  state s: [n, m] = 0
  s <- keep * s - lr * g @ (transpose(g) @ s) - lr * g
  return s
}
"""

# --- on the token clock ---


def test_momentum_of_a_memory() -> None:
    text = (
        HEAVY
        + """
    block Line over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by heavy(1 / 4, 1 / 2) every token
      return M(ones(1))
    }"""
    )
    ports = {"k": [[1], [2], [1]], "v": [[4], [4], [1]]}
    # g = k (k m - v);  s <- s / 2 - g / 4;  m <- m + s
    # 0: g = -4;                  s = 1;                      m = 1
    # 1: g = 2 (2 - 4) = -4;      s = 1/2 + 1 = 3/2;          m = 5/2
    # 2: g = 5/2 - 1 = 3/2;       s = 3/4 - 3/8 = 3/8;        m = 23/8
    expected = [[1], [F(5, 2)], [F(23, 8)]]
    close(run(text, ports, "Line")[0], expected)
    # The momentum is part of the state.
    for cuts in ([1], [2], [1, 2]):
        close(run_in_pieces(interpreter(text, "Line"), ports, cuts)[0], expected)


def test_titans_momentum_with_rates_that_are_streams() -> None:
    """S[t] = eta[t] S[t-1] - theta[t] g[t];  M[t] = keep[t] M[t-1] + S[t], the gradient at M[t-1]."""
    text = (
        HEAVY
        + """
    block Surprise over k: [1], v: [1], theta: [1], eta: [1], keep: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 retaining decay(keep) by heavy(theta, eta) every token
      return M(ones(1))
    }"""
    )
    ports = {
        "k": [[1], [1], [2]],
        "v": [[2], [3], [1]],
        "theta": [[F(1, 2)], [F(1, 4)], [F(1, 4)]],
        "eta": [[F(1, 2)], [F(1, 2)], [F(1, 4)]],
        "keep": [[F(1, 2)], [F(1, 2)], [F(1, 3)]],
    }
    # 0: g = -2;                 S = 1;                       m = 1
    # 1: g = 1 - 3 = -2;         S = 1/2 + 1/2 = 1;           m = 1/2 + 1 = 3/2
    # 2: g = 2 (3 - 1) = 4;      S = 1/4 - 1 = -3/4;          m = 1/2 - 3/4 = -1/4
    close(run(text, ports, "Surprise")[0], [[1], [F(3, 2)], [F(-1, 4)]])


def test_momentum_under_a_held_gradient_is_a_linear_scan() -> None:
    """Titans' chunks (eqs 16-18): gradients at the chunk start, momentum and decay on the running states."""
    text = (
        HEAVY
        + """
    block Scan over k: [1], v: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 retaining decay(1 / 2) by heavy(1 / 4, 1 / 2) every token
        hold gradient for 2 tokens
      return M(ones(1))
    }"""
    )
    ports = {"k": [[1], [1], [1], [2]], "v": [[4], [8], [2], [4]]}
    # 0: at 0: g = -4;                s = 1;                   m = 1
    # 1: at 0: g = -8;                s = 1/2 + 2 = 5/2;       m = 1/2 + 5/2 = 3
    # 2: at 3: g = 3 - 2 = 1;         s = 5/4 - 1/4 = 1;       m = 3/2 + 1 = 5/2
    # 3: at 3: g = 2 (6 - 4) = 4;     s = 1/2 - 1 = -1/2;      m = 5/4 - 1/2 = 3/4
    close(run(text, ports, "Scan")[0], [[1], [3], [F(5, 2)], [F(3, 4)]])


def test_momentum_acts_once_per_window() -> None:
    text = (
        HEAVY
        + """
    block Windows over k: [1], v: [1] -> [1], [1] {
      memory M = matrix(1) from zeros
      before = M(ones(1))
      learn M : k -> v minimizing l2 by heavy(1 / 4, 1 / 2) every 2 tokens
      return before, M(ones(1))
    }"""
    )
    ports = {"k": [[1], [2], [1], [1], [5]], "v": [[4], [4], [1], [2], [7]]}
    # window 0, at m = 0: g = -4 and 2 (0 - 4) = -8, sum -12;    s = 3;                    m = 3
    # window 1, at m = 3: g = 2 and 1, sum 3;                    s = 3/2 - 3/4 = 3/4;      m = 15/4
    # window 2 is ragged and does not write. A write stands at the learn line of the window's last tick.
    before, after = run(text, ports, "Windows")
    close(before, [[0], [0], [3], [3], [F(15, 4)]])
    close(after, [[0], [3], [3], [F(15, 4)], [F(15, 4)]])


def test_each_gradient_weighted_before_the_sum() -> None:
    """`weighted e` multiplies each tick's gradient before it is summed: eta[t] inside eq 71's sum."""
    text = """
    block Weighted over k: [1], v: [1], e: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(1) every 2 tokens weighted e
      return M(ones(1))
    }"""
    ports = {"k": [[1], [2], [1], [1]], "v": [[4], [4], [1], [2]], "e": [[F(1, 2)], [F(1, 8)], [F(1, 3)], [1]]}
    # window 0: 1/2 * -4 + 1/8 * -8 = -3;   m = 3.   window 1: 1/3 * 2 + 1 * 1 = 5/3;   m = 4/3
    close(run(text, ports, "Weighted")[0], [[0], [3], [3], [F(4, 3)]])


def test_delta_momentum_of_a_memory() -> None:
    """Eq 49, typed and transposed: s <- keep s - lr g (g^T s) - lr g, for a gradient g of shape [in, out]."""
    text = (
        DELTA_HEAVY
        + """
    block Delta over k: [2], v: [1], q: [2] -> [1] {
      memory M = matrix(2, out = 1) from zeros
      learn M : k -> v minimizing l2 by delta_heavy(1 / 2, 1 / 2) every token
      return M(q)
    }"""
    )
    ports = {"k": [[1, 0], [1, 1], [0, 2]], "v": [[2], [3], [0]], "q": [[1, 1], [1, 1], [1, 1]]}
    # columns written as rows; g = k (k @ m - v)
    # 0: error -2, g = (-2, 0); g^T s = 0;           s = (1, 0);                                    m = (1, 0)
    # 1: error 1 - 3 = -2, g = (-2, -2); g^T s = -2; g (g^T s) = (4, 4);
    #    s = (1/2, 0) - (2, 2) + (1, 1) = (-1/2, -1);                                               m = (1/2, -1)
    # 2: error -2, g = (0, -4); g^T s = 4;           g (g^T s) = (0, -16);
    #    s = (-1/4, -1/2) - (0, -8) + (0, 2) = (-1/4, 19/2);                                        m = (1/4, 17/2)
    (y,), weights = run_with_weights(text, ports, "Delta")
    close(y, [[1], [F(-1, 2)], [F(35, 4)]])
    close(weights["M.w"], [[F(1, 4)], [F(17, 2)]])


# --- on the step clock ---

LINE_MODEL = (
    HEAVY
    + """
model Line over x: [1] {
  memory W = matrix(1)
  y = W(x)
  loss = l2(y, next(x))
  learn W minimizing loss by heavy(1 / 4, 1 / 2) every step
  return y
}"""
)


def test_momentum_of_a_model() -> None:
    # x = 1, 2, 3: the mean over the two ticks with a target: loss 1/4 ((w - 2)^2 + (2 w - 3)^2),
    # gradient 1/2 ((w - 2) + 2 (2 w - 3)) = 1/2 (5 w - 8)
    # step  w      loss                         g                     s                        w after
    # 1     0      1/4 (4 + 9) = 13/4           -4                    1                        1
    # 2     1      1/4 (1 + 1) = 1/2            -3/2                  1/2 + 3/8 = 7/8          15/8
    # 3     15/8   1/4 (1/64 + 36/64) = 37/256  1/2 (75/8 - 64/8)     7/16 - 11/64 = 17/64     120/64 + 17/64
    #                                             = 11/16
    data = inputs_of({"x": [[1], [2], [3]]})
    machine = interpreter(LINE_MODEL)
    put(machine, W__w=[[0]])
    for wanted_loss, weight in [(F(13, 4), 1), (F(1, 2), F(15, 8)), (F(37, 256), F(137, 64))]:
        loss, _ = machine.step(data)
        close(numbers(loss), wanted_loss)
        close(machine.parameters["W.w"], [[weight]])


def test_a_plain_forward_is_no_step() -> None:
    machine = interpreter(LINE_MODEL)
    put(machine, W__w=[[0]])
    data = inputs_of({"x": [[1], [2], [3]]})
    machine.run(data)
    machine.losses(data)
    close(machine.parameters["W.w"], [[0]])
    machine.step(data)
    machine.run(data)
    machine.step(data)
    close(machine.parameters["W.w"], [[F(15, 8)]])


def test_two_steps_per_write_take_their_mean() -> None:
    # a: x = 1, 2, 3: gradient 1/2 (5 w - 8);   b: x = 2, 2: gradient 2 (2 w - 2) = 4 w - 4
    # steps 1, 2 at w = 0: mean (-4 - 4) / 2 = -4;           s = 1;                    w = 1
    # steps 3, 4 at w = 1: mean (-3/2 + 0) / 2 = -3/4;       s = 1/2 + 3/16 = 11/16;   w = 27/16
    machine = interpreter(LINE_MODEL.replace("every step", "every 2 steps"))
    put(machine, W__w=[[0]])
    a, b = inputs_of({"x": [[1], [2], [3]]}), inputs_of({"x": [[2], [2]]})
    for data, weight in [(a, 0), (b, 1), (a, 1), (b, F(27, 16))]:
        machine.step(data)
        close(machine.parameters["W.w"], [[weight]])


def test_delta_momentum_of_a_model() -> None:
    text = (
        DELTA_HEAVY
        + """
    model Plane over x: [2] {
      memory W = matrix(2)
      y = W(x)
      loss = l2(y, next(x))
      learn * minimizing loss by delta_heavy(1 / 4, 1 / 2) every step
      return y
    }"""
    )
    # x = (1, 0), (0, 2), (2, 1). With rows r0, r1 of W: errors r0 - (0, 2) and 2 r1 - (2, 1);
    # mean gradient 1/2 [r0 - (0, 2); 2 (2 r1 - (2, 1))]
    # step 1, W = 0: g = [[0, -1], [-2, -1]];  s = 0 - 0 - g/4 = [[0, 1/4], [1/2, 1/4]];  W = s
    # step 2: g = 1/2 [(0, -7/4); (2 - 4, 1 - 2)] = [[0, -7/8], [-1, -1/2]]
    #   g^T s = [[0, -1], [-7/8, -1/2]] @ [[0, 1/4], [1/2, 1/4]] = [[-1/2, -1/4], [-1/4, -7/32 - 4/32 = -11/32]]
    #   g (g^T s) = [[7/32, 77/256], [1/2 + 1/8, 1/4 + 11/64]] = [[7/32, 77/256], [5/8, 27/64]]
    #   s = 1/2 s - 1/4 g (g^T s) - 1/4 g
    #     = [[0 - 7/128 + 0, 1/8 - 77/1024 + 7/32], [1/4 - 5/32 + 1/4, 1/8 - 27/256 + 1/8]]
    #     = [[-7/128, 275/1024], [11/32, 37/256]]
    #   W = [[-7/128, 256/1024 + 275/1024], [16/32 + 11/32, 64/256 + 37/256]]
    # losses: 1/4 (|(0, -2)|^2 + |(-2, -1)|^2) = 9/4;
    #         1/4 (|(0, -7/4)|^2 + |(-1, -1/2)|^2) = 1/4 (49/16 + 20/16) = 69/64
    first = [[0, F(1, 4)], [F(1, 2), F(1, 4)]]
    second = [[F(-7, 128), F(531, 1024)], [F(27, 32), F(101, 256)]]
    machine = interpreter(text)
    put(machine, W__w=[[0, 0], [0, 0]])
    for wanted_loss, weight in [(F(9, 4), first), (F(69, 64), second)]:
        loss, _ = machine.step(inputs_of({"x": [[1, 0], [0, 2], [2, 1]]}))
        close(numbers(loss), wanted_loss)
        close(machine.parameters["W.w"], weight)
