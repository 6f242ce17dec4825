"""Chunks of test-time training (Sun et al., 2024), worked by hand: the gradients of a chunk are all taken at the
state at its start, writes act on the running state at every token, and each token reads after its own write."""

from fractions import Fraction as F

from reference.worked import close, inputs_of, interpreter, put, run_in_pieces, weights_after

LINE = """
block Line over k: [1], v: [1], q: [1], eta: [1] -> [1] {
  memory M = matrix(1)
  learn M : k -> v minimizing l2 by gd(eta) every token hold gradient for 3 tokens
  return M(q)
}"""
LINE_PORTS = {
    "k": [[1], [2], [1], [2], [1]],
    "v": [[3], [0], [2], [1], [1]],
    "q": [[1], [1], [3], [2], [4]],
    "eta": [[F(1, 2)], [F(1, 4)], [F(1, 3)], [F(1, 8)], [F(1, 2)]],
}
# start 1.  gradient at the chunk start a: k (k a - v);  running w <- w - eta g;  y = q w
#  t   a    g                        w                        y
#  0   1    1 (1 - 3)   = -2         1 + 1      = 2           2
#  1   1    2 (2 - 0)   =  4         2 - 1      = 1           1
#  2   1    1 (1 - 2)   = -1         1 + 1/3    = 4/3         4
#  3  4/3   2 (8/3 - 1) = 10/3       4/3 - 5/12 = 11/12       11/6
#  4  4/3   1 (4/3 - 1) = 1/3        11/12 - 1/6 = 3/4        3        (a ragged chunk: it goes on in the next call)
LINE_READS = [[2], [1], [4], [F(11, 6)], [3]]
LINE_WEIGHTS = [2, 1, F(4, 3), F(11, 12), F(3, 4)]


def test_linear_chunk() -> None:
    machine = interpreter(LINE, "Line")
    put(machine, M__w=[[1]])
    outs, _ = machine.run(inputs_of(LINE_PORTS))
    close(outs[0][0], LINE_READS)
    for ticks, weight in enumerate(LINE_WEIGHTS, start=1):
        close(weights_after(machine, LINE_PORTS, ticks)["M.w"], [[weight]])


def test_a_chunk_goes_on_in_the_next_call() -> None:
    machine = interpreter(LINE, "Line")
    put(machine, M__w=[[1]])
    for cuts in ([2], [3], [1, 4], [1, 2, 3, 4]):  # within a chunk and between chunks
        close(run_in_pieces(machine, LINE_PORTS, cuts)[0], LINE_READS)


def test_reads_above_see_the_running_state_before_the_write() -> None:
    text = LINE.replace("learn M", "y = M(q) learn M").replace("return M(q)", "return y")
    machine = interpreter(text, "Line")
    put(machine, M__w=[[1]])
    outs, _ = machine.run(inputs_of(LINE_PORTS))
    # q times the weight after the tick before: 1 * 1, 1 * 2, 3 * 1, 2 * 4/3, 4 * 11/12
    close(outs[0][0], [[1], [2], [3], [F(8, 3)], [F(11, 3)]])


def test_ttt_linear_mini_batches() -> None:
    """TTT-Linear without its norm: f(x) = x + (x w + b) learns f(k) = v. Inside a mini-batch that started from
    (w, b) the weights after token t are (w, b) - share[t] * sum over s <= t of rate[s] * grad[s]: today's share
    weighs the whole sum anew. The bias is a matrix of one row whose input is 1."""
    text = """
    net affine over x: [1] -> [1] {
      param w: [1, 1] = 1
      param b: [1, 1] = zeros
      return x @ w + ones(1) @ b
    }
    optimizer shared(rate, share, size) over g {
      state total = 0 reset every size updates
      state moved = 0 reset every size updates
      total <- total + rate * g
      u = -share * total - moved
      moved <- moved + u
      return u
    }
    block Mini over k: [1], v: [1], q: [1], rate: [1], share: [1] -> [1] {
      memory F = affine
      learn F minimizing l2(self(k), v - k) by shared(rate, share, 2) every token hold gradient for 2 tokens
      return q + F(q)
    }"""
    ports = {
        "k": [[1], [2], [1], [-1]],
        "v": [[4], [3], [2], [1]],
        "q": [[1], [2], [1], [1]],
        "rate": [[F(1, 2)], [F(1, 4)], [1], [F(1, 2)]],
        "share": [[1], [F(1, 2)], [1], [F(1, 2)]],
    }
    # batch 1 starts from w = 1, b = 0:
    #  0: error (1 + 0) - (4 - 1) = -2; grad w = -2, b = -2; sums -1, -1;    w = 1 + 1 = 2,      b = 1
    #  1: error (2 + 0) - (3 - 2) = 1;  grad w = 2, b = 1;   sums -1 + 1/2 = -1/2, -1 + 1/4 = -3/4;
    #     halved:                                            w = 1 + 1/4 = 5/4,  b = 3/8
    # batch 2 starts from w = 5/4, b = 3/8:
    #  2: error (5/4 + 3/8) - 1 = 5/8;  grad 5/8, 5/8;       w = 5/4 - 5/8 = 5/8, b = 3/8 - 5/8 = -1/4
    #  3: error (-5/4 + 3/8) - 2 = -23/8; grad w = 23/8, b = -23/8; sums 5/8 + 23/16 = 33/16, 5/8 - 23/16 = -13/16;
    #     halved:                                            w = 5/4 - 33/32 = 7/32, b = 3/8 + 13/32 = 25/32
    weights = [(2, 1), (F(5, 4), F(3, 8)), (F(5, 8), F(-1, 4)), (F(7, 32), F(25, 32))]
    expected = [
        [4],  # 1 + 2 + 1
        [F(39, 8)],  # 2 + 2 * 5/4 + 3/8
        [F(11, 8)],  # 1 + 5/8 - 1/4
        [2],  # 1 + 7/32 + 25/32
    ]
    machine = interpreter(text, "Mini")
    put(machine, F__w=[[1]], F__b=[[0]])
    outs, _ = machine.run(inputs_of(ports))
    close(outs[0][0], expected)
    for ticks, (w, b) in enumerate(weights, start=1):
        after = weights_after(machine, ports, ticks)
        close(after["F.w"], [[w]])
        close(after["F.b"], [[b]])


def test_two_channel_chunk() -> None:
    """The matrix case: W[t] = W[a] - sum over s of eta[s] outer(k[s], k[s] @ W[a] - v[s])."""
    text = """
    block Chunk over k: [2], v: [2], q: [2] -> [2] {
      memory M = matrix(2)
      learn M : k -> v minimizing l2 by gd(1 / 2) every token hold gradient for 2 tokens
      return M(q)
    }"""
    ports = {
        "k": [[1, 1], [0, 2], [1, 0]],
        "v": [[3, 1], [0, 0], [0, 1]],
        "q": [[1, 0], [1, 1], [2, 2]],
    }
    # start W = [[1, 2], [0, 1]]
    # 0: k @ W - v = (1, 3) - (3, 1) = (-2, 2);  M = W - 1/2 [[-2, 2], [-2, 2]] = [[2, 1], [1, 0]]
    # 1: k @ W - v = (0, 2) at the chunk start;   M = [[2, 1], [1, 0]] - 1/2 [[0, 0], [0, 4]] = [[2, 1], [1, -2]]
    # 2: new start; k @ W - v = (2, 1) - (0, 1) = (2, 0);  M = [[2 - 1, 1], [1, -2]] = [[1, 1], [1, -2]]
    expected = [[2, 1], [3, -1], [4, -2]]
    machine = interpreter(text, "Chunk")
    put(machine, M__w=[[1, 2], [0, 1]])
    outs, _ = machine.run(inputs_of(ports))
    close(outs[0][0], expected)
