"""Multi-scale momentum (Nested Learning Algorithm 1), its timing worked by hand over three slow periods of two.

The fast momentum takes each gradient at once. The slow momentum takes the sum of a block of two gradients when the
block is over, and the update that ends the block does not see it yet: gradients of one block are first seen by the
next. Two plain functions stand for the irrational ones: z / (1 + z^2) for `orthogonal`, v itself for its root.

With b1 = 1/2, b2 = 1/4, b3 = 1/4, alpha = 1/2, lr = 6, eps = 1, f(z) = z / (1 + z^2):

  g    fast             f(fast)   slow seen          f(slow)   v                u = -6 (f(fast) + f(slow)/2) / (v + 1)
  2    1                1/2       0                  0         1                -6 * 1/2 / 2               = -3/2
  2    2                2/5       0                  0         2                -6 * 2/5 / 3               = -4/5
                                  (2 + 2)/4 = 1
 -6    2 - 3 = -1       -1/2      1                  1/2       2 + 9 = 11       -6 * (-1/2 + 1/4) / 12     = 1/8
  4    -1 + 2 = 1       1/2       1                  1/2       11 + 4 = 15      -6 * (1/2 + 1/4) / 16      = -9/32
                                  1 + (-6 + 4)/4 = 1/2
  2    1 + 1 = 2        2/5       1/2                2/5       15 + 1 = 16      -6 * (2/5 + 1/5) / 17      = -18/85
 -4    2 - 2 = 0        0         1/2                2/5       16 + 4 = 20      -6 * (0 + 1/5) / 21        = -2/35"""

from fractions import Fraction as F

from reference.worked import close, inputs_of, interpreter, put, run, run_in_pieces

M3 = """
net bend over z = z / (1 + z^2)
optimizer two_paces(lr, b1, b2, b3, alpha, slow_every, eps) over g {
  state fast = 0
  state slow = 0
  state v = 0
  fast <- fast + b1 * g
  v    <- v + b2 * g^2
  u = -lr * (bend(fast) + alpha * bend(slow)) / (v + eps)
  slow <- slow + b3 * window_sum(g) every slow_every updates
  return u
}
"""
RULE = "two_paces(6, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 2, 1)"
GRADIENTS = [2, 2, -6, 4, 2, -4]
WEIGHTS = [
    F(-3, 2),
    F(-23, 10),  # -15/10 - 8/10
    F(-87, 40),  # -92/40 + 5/40
    F(-393, 160),  # -348/160 - 45/160
    F(-7257, 2720),  # -393 * 17/2720 - 18 * 32/2720 = (-6681 - 576)/2720
    F(-51887, 19040),  # -7257 * 7/19040 - 2 * 544/19040 = (-50799 - 1088)/19040
]

# The gradient of dot(w, v) = -w v is -v, whatever the weight.
TOKENS = (
    M3
    + f"""
block Line over v: [1] -> [1] {{
  memory M = matrix(1) from zeros
  learn M : ones(1) -> v minimizing dot by {RULE} every token
  return M(ones(1))
}}"""
)
TOKEN_PORTS = {"v": [[-g] for g in GRADIENTS]}


def test_on_the_token_clock() -> None:
    close(run(TOKENS, TOKEN_PORTS, "Line")[0], [[weight] for weight in WEIGHTS])


def test_a_slow_period_goes_on_in_the_next_call() -> None:
    for cuts in ([1], [2], [3], [1, 3, 4, 5]):
        pieces = run_in_pieces(interpreter(TOKENS, "Line"), TOKEN_PORTS, cuts)
        close(pieces[0], [[weight] for weight in WEIGHTS])


def test_slow_periods_count_updates_not_tokens() -> None:
    text = TOKENS.replace("every token", "every 2 tokens")
    # each window of two tokens sums to one gradient of the table: g - 1 and 1
    ports = {"v": [[-part] for g in GRADIENTS for part in (g - 1, 1)]}
    expected = [[0]]
    for weight in WEIGHTS:
        expected += [[weight], [weight]]
    close(run(text, ports, "Line")[0], expected[:-1])


def test_on_the_step_clock() -> None:
    text = (
        M3
        + f"""
    model Line over x: [1] {{
      memory W = matrix(1)
      y = W(x)
      loss = dot(y, next(x))
      learn * minimizing loss by {RULE} every step
      return y
    }}"""
    )
    machine = interpreter(text)
    put(machine, W__w=[[0]])
    for gradient, weight in zip(GRADIENTS, WEIGHTS, strict=True):
        machine.step(inputs_of({"x": [[-gradient], [1]]}))  # gradient -x next(x)
        close(machine.parameters["W.w"], [[weight]])


def test_a_slow_momentum_above_the_update_is_seen_at_once() -> None:
    """The other order, for contrast: the write stands above the read, so the update that ends a block sees it."""
    seen_at_once = M3.replace("  slow <- slow + b3 * window_sum(g) every slow_every updates\n", "").replace(
        "  u = ", "  slow <- slow + b3 * window_sum(g) every slow_every updates\n  u = "
    )
    text = TOKENS.replace(M3, seen_at_once)
    # 1: slow 0:                             u = -3/2,                          w = -3/2
    # 2: slow (2 + 2)/4 = 1, f = 1/2:        u = -6 (2/5 + 1/4) / 3 = -13/10;   w = -28/10
    # 3: slow 1:                             u = 1/8;                           w = -107/40
    # 4: slow 1 + (-6 + 4)/4 = 1/2, f = 2/5: u = -6 (1/2 + 1/5) / 16 = -21/80;  w = -235/80
    ports = {"v": TOKEN_PORTS["v"][:4]}
    close(run(text, ports, "Line")[0], [[F(-3, 2)], [F(-14, 5)], [F(-107, 40)], [F(-47, 16)]])
