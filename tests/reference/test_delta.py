"""DeltaNet, Gated DeltaNet and Titans' decay, worked by hand (Nested Learning eq 65 with the signs and order of
DeltaNet's own papers; Titans eq 13 without momentum).

In row convention the gradient of l2 = 0.5 |k @ M - v|^2 is outer(k, k @ M - v)."""

from fractions import Fraction as F

import pytest
from reference.worked import close, run, run_with_weights


def test_delta_net() -> None:
    text = """
    block Delta over k: [2], v: [2], q: [2], beta: [1] -> [2] {
      memory M = matrix(2) from zeros
      learn M : k -> v minimizing l2 by gd(beta) every token
      return M(q)
    }"""
    ports = {
        "k": [[1, 0], [1, 1], [0, 2]],
        "v": [[2, 4], [0, 1], [1, -1]],
        "q": [[1, 1], [3, 3], [6, 2]],
        "beta": [[F(1, 2)], [F(1, 3)], [F(1, 4)]],
    }
    # M[t] = M[t-1] - beta outer(k, k @ M[t-1] - v)
    # 1: k @ 0 - v = (-2, -4);              M[1] = -1/2 outer((1, 0), (-2, -4)) = [[1, 2], [0, 0]]
    # 2: k @ M[1] - v = (1, 2) - (0, 1) = (1, 1);
    #    M[2] = M[1] - 1/3 [[1, 1], [1, 1]] = [[2/3, 5/3], [-1/3, -1/3]]
    # 3: k @ M[2] - v = (-2/3, -2/3) - (1, -1) = (-5/3, 1/3);
    #    M[3] = M[2] - 1/4 [[0, 0], [-10/3, 2/3]] = [[2/3, 5/3], [-1/3 + 5/6, -1/3 - 1/6]]
    last = [[F(2, 3), F(5, 3)], [F(1, 2), F(-1, 2)]]
    expected = [
        [1, 2],  # (1, 1) @ M[1]
        [1, 4],  # (3, 3) @ M[2] = (2 - 1, 5 - 1)
        [5, 9],  # (6, 2) @ M[3] = (4 + 1, 10 - 1)
    ]
    (y,), weights = run_with_weights(text, ports, "Delta")
    close(y, expected)
    close(weights["M.w"], last)


def test_rates_per_output_and_per_input() -> None:
    """A rate of shape [n] stands on the output axis, one of shape [n, 1] on the input axis."""
    text = """
    block Rates over k: [2], v: [2], out: [2], into: [2, 1] -> [2], [2] {
      memory A = matrix(2) from zeros
      memory B = matrix(2) from zeros
      learn A : k -> v minimizing l2 by gd(out) every token
      learn B : k -> v minimizing l2 by gd(into) every token
      return A(ones(2)), B(ones(2))
    }"""
    ports = {"k": [[1, 2]], "v": [[3, 5]], "out": [[F(1, 2), F(1, 5)]], "into": [[[F(1, 2)], [F(1, 4)]]]}
    # the gradient of both is outer((1, 2), (-3, -5)) = [[-3, -5], [-6, -10]]
    # A = [[3/2, 1], [3, 2]]    (columns times 1/2 and 1/5);   ones @ A = (9/2, 3)
    # B = [[3/2, 5/2], [3/2, 5/2]] (rows times 1/2 and 1/4);   ones @ B = (3, 5)
    (a, b), weights = run_with_weights(text, ports, "Rates")
    close(weights["A.w"], [[F(3, 2), 1], [3, 2]])
    close(weights["B.w"], [[F(3, 2), F(5, 2)], [F(3, 2), F(5, 2)]])
    close(a, [[F(9, 2), 3]])
    close(b, [[3, 5]])


# One channel, so that every matrix is a number: m <- keep m - beta k (k m' - v). Gated DeltaNet takes the error at
# the decayed m' = keep m, Titans at m' = m, chunk-wise training at m' = the memory at the start of the chunk.
GATED = """
block Gated over k: [1], v: [1], alpha: [1], beta: [1] -> [1] {
  memory M = matrix(1) from zeros
  M <- alpha * M
  learn M : k -> v minimizing l2 by gd(beta) every token HOLD
  return M(ones(1))
}"""
TITANS = """
block Titans over k: [1], v: [1], alpha: [1], beta: [1] -> [1] {
  memory M = matrix(1) from zeros
  learn M : k -> v minimizing l2 retaining decay(alpha) by gd(beta) every token HOLD
  return M(ones(1))
}"""
SCALARS = {
    "k": [[1], [2], [1], [2]],
    "v": [[4], [3], [1], [3]],
    "alpha": [[F(1, 2)], [F(1, 2)], [F(3, 4)], [F(1, 3)]],
    "beta": [[F(1, 2)], [F(1, 4)], [F(1, 3)], [F(1, 2)]],
}


def test_gated_delta_net_takes_the_error_on_the_decayed_memory() -> None:
    # decayed m'               error k m' - v       gradient   new m
    # 0                        -4                   -4         0 + 1/2 * 4 = 2
    # 1/2 * 2 = 1              2 - 3 = -1           -2         1 + 1/4 * 2 = 3/2
    # 3/4 * 3/2 = 9/8          9/8 - 1 = 1/8        1/8        9/8 - 1/3 * 1/8 = 26/24
    # 1/3 * 13/12 = 13/36      13/18 - 3 = -41/18   -41/9      13/36 + 1/2 * 41/9 = 95/36
    expected = [[2], [F(3, 2)], [F(13, 12)], [F(95, 36)]]
    close(run(GATED.replace("HOLD", ""), SCALARS, "Gated")[0], expected)


def test_titans_takes_the_error_on_the_memory_itself() -> None:
    # error k m - v            gradient   decayed m              new m
    # -4                       -4         0                      0 + 1/2 * 4 = 2
    # 4 - 3 = 1                2          1/2 * 2 = 1            1 - 1/4 * 2 = 1/2
    # 1/2 - 1 = -1/2           -1/2       3/4 * 1/2 = 3/8        3/8 + 1/3 * 1/2 = 13/24
    # 13/12 - 3 = -23/12       -23/6      1/3 * 13/24 = 13/72    13/72 + 1/2 * 23/6 = 151/72
    expected = [[2], [F(1, 2)], [F(13, 24)], [F(151, 72)]]
    titans = run(TITANS.replace("HOLD", ""), SCALARS, "Titans")[0]
    close(titans, expected)
    # At the second tick, where both start from m = 2, they differ by -(1 - alpha) beta k^2 m = -1/2 * 1/4 * 4 * 2.
    gated = run(GATED.replace("HOLD", ""), SCALARS, "Gated")[0]
    close(titans[1][0] - gated[1][0], -1)


@pytest.mark.parametrize(("text", "name"), [(GATED, "Gated"), (TITANS, "Titans")])
def test_under_a_held_gradient_they_agree(text: str, name: str) -> None:
    # The gradient stands at the start of the chunk (before that tick's own decay), the decay acts on the running m:
    # chunk start m'   gradient k (k m' - v)     new m
    # 0                -4                        1/2 * 0 + 1/2 * 4 = 2
    # 0                2 (0 - 3) = -6            1/2 * 2 + 1/4 * 6 = 5/2
    # 5/2              5/2 - 1 = 3/2             3/4 * 5/2 - 1/3 * 3/2 = 15/8 - 4/8 = 11/8
    # 5/2              2 (5 - 3) = 4             1/3 * 11/8 - 1/2 * 4 = 11/24 - 48/24 = -37/24
    expected = [[2], [F(5, 2)], [F(11, 8)], [F(-37, 24)]]
    close(run(text.replace("HOLD", "hold gradient for 2 tokens"), SCALARS, name)[0], expected)


def test_gated_delta_net_in_two_channels() -> None:
    """M[t] = alpha M (I - beta k k^T) + beta v k^T, transposed: alpha (M - beta outer(k, k @ M)) + beta outer(k, v)."""
    text = """
    block Gated over k: [2], v: [2], q: [2], alpha: [1], beta: [1] -> [2] {
      memory M = matrix(2) from zeros
      M <- alpha * M
      learn M : k -> v minimizing l2 by gd(beta) every token
      return M(q)
    }"""
    ports = {
        "k": [[1, 0], [1, 2], [0, 1]],
        "v": [[2, 4], [1, 0], [3, 3]],
        "q": [[1, 1], [5, 0], [0, 5]],
        "alpha": [[F(1, 3)], [F(1, 2)], [F(1, 4)]],
        "beta": [[F(1, 2)], [F(2, 5)], [1]],
    }
    # 1: decayed 0; error (-2, -4); M[1] = [[1, 2], [0, 0]]
    # 2: decayed [[1/2, 1], [0, 0]]; error (1/2, 1) - (1, 0) = (-1/2, 1);
    #    M[2] = decayed - 2/5 [[-1/2, 1], [-1, 2]] = [[1/2 + 1/5, 1 - 2/5], [2/5, -4/5]] = [[7/10, 3/5], [2/5, -4/5]]
    # 3: decayed [[7/40, 3/20], [1/10, -1/5]]; with beta = 1 and |k| = 1 the second row becomes v = (3, 3)
    expected = [
        [1, 2],  # (1, 1) @ M[1]
        [F(7, 2), 3],  # (5, 0) @ M[2]
        [15, 15],  # (0, 5) @ M[3]
    ]
    (y,), weights = run_with_weights(text, ports, "Gated")
    close(y, expected)
    close(weights["M.w"], [[F(7, 40), F(3, 20)], [3, 3]])
