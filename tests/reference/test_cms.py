"""Continuum memory (Nested Learning eq 71) on a token clock with `minimizing loss`, worked by hand.

Every memory is one number, the loss of tick t is 0.5 (prediction[t] - x[t+1])^2 and its target is pending until tick
t + 1. A window's write lands between ticks: after the input that is its last target has come, before that tick reads.
The memory's step is the sum over the window of gradients taken at the window's own (constant) weights."""

from fractions import Fraction as F

import torch
from reference.worked import close, inputs_of, interpreter, numbers, put, run_in_pieces, stream, weights_after

ONE = """
model Window over x: [1] {
  memory M = matrix(1)
  y = M(x)
  loss = l2(y, next(x))
  learn M minimizing loss by gd(1 / 4) every 2 tokens
  return y
}"""
ONE_INPUT = {"x": [[1], [2], [1], [3], [4]]}
# w = 1;  e = w x - next x,  gradient x e
# window 0:  tick 0: e = 1 - 2 = -1, g = -1;          tick 1: e = 2 - 1 = 1, g = 2;
#            sum 1, known once x[2] is;                w = 1 - 1/4 = 3/4
# window 1:  tick 2: e = 3/4 - 3 = -9/4, g = -9/4;    tick 3: e = 9/4 - 4 = -7/4, g = -21/4;
#            sum -30/4, known once x[4] is;            w = 3/4 + 15/8 = 21/8
ONE_READS = [[1], [2], [F(3, 4)], [F(9, 4)], [F(21, 2)]]  # x w: 1, 2, 3/4, 3 * 3/4, 4 * 21/8
ONE_LOSSES = [F(1, 2), F(1, 2), F(81, 32), F(49, 32)]  # e^2 / 2; the last tick has no target
# A write lands only when its last target is known: two ticks read, no write yet.
ONE_WEIGHTS = [1, 1, F(3, 4), F(3, 4), F(21, 8)]


def test_two_windows_of_one_memory() -> None:
    machine = interpreter(ONE)
    put(machine, M__w=[[1]])
    outs, _ = machine.run(inputs_of(ONE_INPUT))
    close(outs[0][0], ONE_READS)
    for ticks, weight in enumerate(ONE_WEIGHTS, start=1):
        close(weights_after(machine, ONE_INPUT, ticks)["M.w"], [[weight]])


def test_losses_of_the_ticks_that_have_a_target() -> None:
    machine = interpreter(ONE)
    put(machine, M__w=[[1]])
    rows, _ = machine.losses(inputs_of(ONE_INPUT))
    assert len(rows) == 1
    close([numbers(loss) for loss in rows[0]], ONE_LOSSES)


def test_the_pending_target_may_come_in_the_next_call() -> None:
    machine = interpreter(ONE)
    put(machine, M__w=[[1]])
    for cuts in ([1], [2], [3], [4], [1, 2, 3, 4]):
        close(run_in_pieces(machine, ONE_INPUT, cuts)[0], ONE_READS)


def test_a_loss_whose_target_is_in_the_next_call() -> None:
    machine = interpreter(ONE)
    put(machine, M__w=[[1]])
    first, state = machine.losses(inputs_of({"x": ONE_INPUT["x"][:2]}))
    second, _ = machine.losses(inputs_of({"x": ONE_INPUT["x"][2:]}), state)
    joined = [numbers(loss) for loss in [*first[0], *second[0]]]
    # Tick 1's target comes with the second call, and its loss with it: none is lost, none is counted twice.
    close(joined, ONE_LOSSES)


def test_sequences_of_a_batch_keep_their_own_weights() -> None:
    # second sequence: 2, 1, 1, 1, 1
    # window 0: 2 (2 - 1) + 1 (1 - 1) = 2;            w = 1 - 1/2 = 1/2
    # window 1: (1/2 - 1) + (1/2 - 1) = -1;           w = 1/2 + 1/4 = 3/4
    other = [[2], [1], [1], [1], [1]]
    machine = interpreter(ONE)
    put(machine, M__w=[[1]])
    outs, state = machine.run({"x": torch.cat([stream(ONE_INPUT["x"]), stream(other)])})
    close(outs[0][0], ONE_READS)
    close(outs[0][1], [[2], [1], [F(1, 2)], [F(1, 2)], [F(3, 4)]])
    close(numbers(machine.weights(state, row=0)["M.w"]), [[F(21, 8)]])
    close(numbers(machine.weights(state, row=1)["M.w"]), [[F(3, 4)]])


TWO = """
model Chain over x: [1] {
  memory Fast = matrix(1)
  memory Slow = matrix(1)
  y = Slow(Fast(x))
  loss = l2(y, next(x))
  learn Fast minimizing loss by gd(1 / 2) every 2 tokens
  learn Slow minimizing loss by gd(1 / 4) every 4 tokens
  return y
}"""
TWO_INPUT = {"x": [[1], [2], [2], [2], [3], [1], [1], [1], [2]]}
# y = x f s;  e = y - next x;  c = sum of x e over the segment (two ticks);  gradient of f: s c,  of s: f c
# segment  f     s     e                        c                     gradients        writes (before the next tick)
# 0        1     1     1 - 2 = -1, 2 - 2 = 0    -1 + 0 = -1           -1,   -1         f = 1 + 1/2 = 3/2
# 1        3/2   1     3 - 2 = 1,  3 - 3 = 0     2 + 0 = 2             2,    3         f = 3/2 - 1 = 1/2
#                                                slow window: -1 + 3 = 2               s = 1 - 2/4 = 1/2
# 2        1/2   1/2   3/4 - 1,    1/4 - 1      -3/4 - 3/4 = -3/2     -3/4, -3/4       f = 1/2 + 3/8 = 7/8
# 3        7/8   1/2   7/16 - 1,   7/16 - 2     -9/16 - 25/16 = -17/8 -17/16, -119/64  f = 7/8 + 17/32 = 45/32
#                                                slow window: -48/64 - 119/64 = -167/64
#                                                                                      s = 1/2 + 167/256 = 295/256
# The slow memory's second gradient is 3 = f c at f = 3/2, the fast weight of that time; what the first segment's fast
# write owes to s is not followed, as it was carried into the second segment.
TWO_READS = [[1], [2], [3], [3], [F(3, 4)], [F(1, 4)], [F(7, 16)], [F(7, 16)], [F(13275, 4096)]]
TWO_WEIGHTS = [  # after tick 0, 1, ...: (f, s); a segment's writes are there once the next tick has been read
    (1, 1),
    (1, 1),
    (F(3, 2), 1),
    (F(3, 2), 1),
    (F(1, 2), F(1, 2)),
    (F(1, 2), F(1, 2)),
    (F(7, 8), F(1, 2)),
    (F(7, 8), F(1, 2)),
    (F(45, 32), F(295, 256)),
]


def test_a_slower_memory_sums_its_segments() -> None:
    machine = interpreter(TWO)
    put(machine, Fast__w=[[1]], Slow__w=[[1]])
    outs, _ = machine.run(inputs_of(TWO_INPUT))
    close(outs[0][0], TWO_READS)
    for ticks, (fast, slow) in enumerate(TWO_WEIGHTS, start=1):
        after = weights_after(machine, TWO_INPUT, ticks)
        close(after["Fast.w"], [[fast]])
        close(after["Slow.w"], [[slow]])
    for cuts in ([2], [3], [4], [5], [1, 6]):
        close(run_in_pieces(machine, TWO_INPUT, cuts)[0], TWO_READS)


def test_gradients_flow_through_writes_inside_the_segment() -> None:
    """The value A learns comes from M, so that M's loss gradient passes A's writes: all of those inside the segment,
    none of those before it."""
    text = """
    model Flow over x: [1] {
      memory M = matrix(1)
      memory A = matrix(1) from zeros
      v = M(x)
      learn A : x -> v minimizing dot by gd(1) every token
      y = A(x)
      loss = l2(y, next(x))
      learn M minimizing loss by gd(1 / 7) every 2 tokens
      return y
    }"""
    ports = {"x": [[1], [1], [1], [1], [4]]}
    # a <- a + x (x m);  y = x a.  m = 2.
    # 0: a = 2; y = 2; e = 2 - 1 = 1; dy/dm = 1 (this write)                          g = 1
    # 1: a = 4; y = 4; e = 4 - 1 = 3; dy/dm = 1 + 1 (tick 0's write is in the segment) g = 6
    #    sum 7;  m = 2 - 7/7 = 1
    # 2: a = 5; y = 5; e = 5 - 1 = 4; dy/dm = 1 (a = 4 was carried in)                g = 4
    # 3: a = 6; y = 6; e = 6 - 4 = 2; dy/dm = 2                                       g = 4
    #    sum 8;  m = 1 - 8/7 = -1/7
    # 4: a = 6 + 16 * (-1/7) = 26/7;  y = 4 a = 104/7
    machine = interpreter(text)
    put(machine, M__w=[[2]])
    outs, state = machine.run(inputs_of(ports))
    close(outs[0][0], [[2], [4], [5], [6], [F(104, 7)]])
    close(numbers(machine.weights(state)["M.w"]), [[F(-1, 7)]])


OUTER = ONE.replace("return y", "learn * minimizing loss by gd(1) every step return y")


def test_the_start_is_learned_through_the_writes() -> None:
    # One step over the five ticks above; the step's loss is the mean over the four ticks with a target.
    # With start w: e0 = w - 2, e1 = 2 w - 1, the write makes w' = w - 1/4 (e0 + 2 e1) = 1 - w/4, dw'/dw = -1/4,
    # e2 = w' - 3, e3 = 3 w' - 4; the second write lands after the last target and is read by no loss.
    # At w = 1: loss = 1/8 (1 + 1 + 81/16 + 49/16) = 81/64,
    # gradient 1/4 (e0 + 2 e1 - 1/4 (e2 + 3 e3)) = 1/4 (-1 + 2 + 1/4 * 30/4) = 1/4 * 23/8 = 23/32.
    machine = interpreter(OUTER)
    put(machine, M__w=[[1]])
    loss, _ = machine.step(inputs_of(ONE_INPUT))
    close(numbers(loss), F(81, 64))
    close(machine.parameters["M.w"], [[1 - F(23, 32)]])


def test_detached_writes_are_data_to_the_step() -> None:
    # The write is w' = w - (a number), dw'/dw = 1: gradient 1/4 (-1 + 2 + e2 + 3 e3) = 1/4 (1 - 30/4) = -13/8.
    machine = interpreter(OUTER.replace("every 2 tokens", "every 2 tokens detached"))
    put(machine, M__w=[[1]])
    loss, _ = machine.step(inputs_of(ONE_INPUT))
    close(numbers(loss), F(81, 64))
    close(machine.parameters["M.w"], [[1 + F(13, 8)]])
