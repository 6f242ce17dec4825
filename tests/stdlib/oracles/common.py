"""What all oracles share.

The papers write a memory as M: [d_v, d_k] and read it as M k. Here vectors are rows and a matrix acts as y = x @ W with
W: [in, out], so a memory is S = M^T: [d_k, d_v], and the papers' v k^T becomes `torch.outer(k, v)`.
One call is one sequence and one head: vectors are [T, d], gates are [T], one number per token.
"""

from torch import Tensor

State = dict[str, Tensor]
Result = tuple[Tensor, State]
Scalar = float | Tensor


def matrix_or_zeros(start: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor:
    """`start`, or zeros: [width of `rows`, width of `columns`], both [T, width]."""
    return rows.new_zeros(rows.shape[1], columns.shape[1]) if start is None else start
