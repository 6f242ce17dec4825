"""Linear attention and its next of kin (Nested Learning eqs 5, 14-18), worked by hand.

In row convention (y = q @ M, M: [in, out]) eq 15 reads M[t] = M[t-1] + outer(k[t], v[t]): gradient descent
with rate 1 on the dot-product objective -<k @ M, v>, whose gradient is -outer(k, v)."""

from fractions import Fraction as F

from reference.worked import close, inputs_of, interpreter, numbers, put, run, run_with_weights

PORTS = {
    "k": [[1, 2], [0, 1], [-1, 1]],
    "v": [[3, -1], [F(1, 2), 2], [2, 4]],
    "q": [[1, 0], [1, -1], [2, F(1, 2)]],
}

# M[0] = 0
# M[1] = outer((1, 2), (3, -1))          = [[ 3, -1], [6, -2]]
# M[2] = M[1] + outer((0, 1), (1/2, 2))  = [[ 3, -1], [6 + 1/2, -2 + 2]]     = [[3, -1], [13/2, 0]]
# M[3] = M[2] + outer((-1, 1), (2, 4))   = [[3 - 2, -1 - 4], [13/2 + 2, 0 + 4]]
M3 = [[1, -5], [F(17, 2), 4]]


def test_write_then_read() -> None:
    text = """
    block Linear over k: [2], v: [2], q: [2] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot by gd(1) every token
      return M(q)
    }"""
    # y[t] = q[t] @ M[t], the paper's order for linear attention:
    expected = [
        [3, -1],  # (1, 0) @ [[3, -1], [6, -2]]
        [F(-7, 2), -1],  # (1, -1) @ [[3, -1], [13/2, 0]] = (3 - 13/2, -1 - 0)
        [F(25, 4), -8],  # (2, 1/2) @ [[1, -5], [17/2, 4]] = (2 + 17/4, -10 + 2)
    ]
    (y,), weights = run_with_weights(text, PORTS, "Linear")
    close(y, expected)
    close(weights["M.w"], M3)


def test_read_then_write() -> None:
    text = """
    block Linear over k: [2], v: [2], q: [2] -> [2] {
      memory M = matrix(2) from zeros
      y = M(q)
      learn M : k -> v minimizing dot by gd(1) every token
      return y
    }"""
    # y[t] = q[t] @ M[t-1]: a read above the learn sees the memory before this tick's write.
    expected = [
        [0, 0],  # the empty memory
        [-3, 1],  # (1, -1) @ [[3, -1], [6, -2]] = (3 - 6, -1 + 2)
        [F(37, 4), -2],  # (2, 1/2) @ [[3, -1], [13/2, 0]] = (6 + 13/4, -2 + 0)
    ]
    (y,), weights = run_with_weights(text, PORTS, "Linear")
    close(y, expected)
    close(weights["M.w"], M3)  # the writes are the same


def test_read_on_both_sides() -> None:
    text = """
    block Linear over k: [2], v: [2], q: [2] -> [2], [2] {
      memory M = matrix(2) from zeros
      before = M(q)
      learn M : k -> v minimizing dot by gd(1) every token
      return before, M(q)
    }"""
    before, after = run(text, PORTS, "Linear")
    close(before, [[0, 0], [-3, 1], [F(37, 4), -2]])
    close(after, [[3, -1], [F(-7, 2), -1], [F(25, 4), -8]])


def test_from_a_learned_start() -> None:
    text = """
    block Linear over k: [2], v: [2], q: [2] -> [2] {
      memory M = matrix(2)
      learn M : k -> v minimizing dot by gd(1) every token
      return M(q)
    }"""
    # The start [[1, 1], [0, 2]] adds q @ start to every read of test_write_then_read:
    #   (1, 0) -> (1, 1);   (1, -1) -> (1, 1 - 2) = (1, -1);   (2, 1/2) -> (2, 2 + 1) = (2, 3)
    expected = [[3 + 1, -1 + 1], [F(-7, 2) + 1, -1 - 1], [F(25, 4) + 2, -8 + 3]]
    machine = interpreter(text, "Linear")
    put(machine, M__w=[[1, 1], [0, 2]])
    outs, _ = machine.run(inputs_of(PORTS))
    close(outs[0][0], expected)


def test_fast_weights_with_decay_and_rate() -> None:
    """Eq 5 with a rate: M[t] = alpha[t] M[t-1] + eta[t] outer(k[t], v[t]); both gates are streams."""
    text = """
    block Fast over k: [2], v: [2], q: [2], alpha: [1], eta: [1] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing dot retaining decay(alpha) by gd(eta) every token
      return M(q)
    }"""
    ports = PORTS | {"alpha": [[F(1, 2)], [F(1, 3)], [2]], "eta": [[2], [1], [F(1, 2)]]}
    # M[1] = 1/2 * 0 + 2 [[3, -1], [6, -2]]                                = [[6, -2], [12, -4]]
    # M[2] = 1/3 M[1] + [[0, 0], [1/2, 2]] = [[2, -2/3], [4 + 1/2, -4/3 + 2]] = [[2, -2/3], [9/2, 2/3]]
    # M[3] = 2 M[2] + 1/2 [[-2, -4], [2, 4]] = [[4 - 1, -4/3 - 2], [9 + 1, 4/3 + 2]] = [[3, -10/3], [10, 10/3]]
    expected = [
        [6, -2],  # (1, 0) @ M[1]
        [F(-5, 2), F(-4, 3)],  # (1, -1) @ M[2] = (2 - 9/2, -2/3 - 2/3)
        [11, -5],  # (2, 1/2) @ M[3] = (6 + 5, -20/3 + 5/3)
    ]
    close(run(text, ports, "Fast")[0], expected)


def test_heads_are_memories_of_their_own() -> None:
    """Two heads of one channel each: a head sees its own key, value, query and rate."""
    text = """
    block Heads over k: [2], v: [2], q: [2], eta: [2] -> [2] {
      memory M[2] = matrix(1) from zeros
      rate = eta |> split(2)
      learn M : (k |> split(2)) -> (v |> split(2)) minimizing dot by gd(rate) every token
      return M(q |> split(2)) |> merge
    }"""
    ports = PORTS | {"eta": [[1, 2], [3, F(1, 2)], [1, 1]]}
    # head 0: M = 1 * 1 * 3 = 3;    + 3 * 0 * 1/2 = 3;          + 1 * (-1) * 2 = 1
    # head 1: M = 2 * 2 * (-1) = -4; + 1/2 * 1 * 2 = -3;        + 1 * 1 * 4 = 1
    expected = [
        [3, 0],  # 1 * 3, 0 * -4
        [3, 3],  # 1 * 3, -1 * -3
        [2, F(1, 2)],  # 2 * 1, 1/2 * 1
    ]
    machine = interpreter(text, "Heads")
    outs, state = machine.run(inputs_of(ports))
    close(outs[0][0], expected)
    close(numbers(machine.weights(state)["M.w"]), [[[1]], [[1]]])


def test_normalised_reads() -> None:
    """The optional normaliser: z[t] = z[t-1] + k[t], y = (q @ M[t]) / (q . z[t]), z as a second memory of value 1."""
    text = """
    block Normalised over k: [2], v: [1], q: [2] -> [1] {
      memory M = matrix(2, out = 1) from zeros
      memory Z = matrix(2, out = 1) from zeros
      learn M : k -> v minimizing dot by gd(1) every token
      learn Z : k -> ones(1) minimizing dot by gd(1) every token
      return M(q) / Z(q)
    }"""
    ports = {"k": [[1, 2], [0, 1], [3, 1]], "v": [[3], [F(1, 2)], [-1]], "q": [[1, 1], [1, 2], [2, 1]]}
    # M: (3, 6)   -> (3, 13/2)   -> (3 - 3, 13/2 - 1) = (0, 11/2)
    # z: (1, 2)   -> (1, 3)      -> (4, 4)
    expected = [
        [3],  # (3 + 6) / (1 + 2)
        [F(16, 7)],  # (3 + 13) / (1 + 6)
        [F(11, 24)],  # (0 + 11/2) / (8 + 4)
    ]
    close(run(text, ports, "Normalised")[0], expected)
