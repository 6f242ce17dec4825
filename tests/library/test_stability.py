"""What learns while it reads keeps its measure at its initial values: it neither explodes nor fades, and it learns."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from nldsl.compiler.reference import Interpreter
from torch import Tensor

import nldsl

TICKS = 160
LARGEST = 10 ** (TICKS / 1000)  # the pace of ten times in 1000 tokens


def size(weights: Iterable[Tensor]) -> float:
    return sum(float((w.detach() ** 2).sum()) for w in weights) ** 0.5


@pytest.mark.parametrize(("dim", "heads"), [(64, 1), (32, 2)])
def test_self_modifying_titans_keep_their_measure(dim: int, heads: int) -> None:
    """Four words over and over. With values longer than keys, every memory here exceeds any bound within 100 ticks."""
    machine = Interpreter(nldsl.load("std.hope:SelfModifyingTitans", dim=dim, heads=heads))
    random = torch.Generator().manual_seed(0)
    words = torch.randn(4, dim, generator=random, dtype=torch.float64)
    text = torch.randint(0, len(words), (1, TICKS), generator=random)
    with torch.no_grad():
        _, state = machine.run(words[text])
    running = machine.weights(state)
    for memory in ("K", "V", "M", "Eta", "Alpha"):
        leaves = [name for name in running if name.startswith(f"{memory}.")]
        moved = size(running[n] for n in leaves) / size(machine.parameters[n] for n in leaves)
        assert 1 / LARGEST < moved < LARGEST, memory
        (down,) = (n for n in leaves if n.endswith("down"))
        assert size([running[down]]) > 0.01, "it starts from zeros: this is what was learned"


CHAIN = """
from std.hope import CMS
model Chain(periods) over ids: int {
  x      = ids |> embed(8, 8) |> CMS(8, periods)
  logits = x |> linear(8)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by gd(0.1) every step
  return logits
}"""


def test_a_write_of_cms_is_no_longer_for_a_longer_window() -> None:
    """One word over and over: the gradient of every token is the same, so its mean is, whatever the window."""
    short, long = (Interpreter(nldsl.load_text(CHAIN, periods=[window])) for window in (2, 32))
    with torch.no_grad():
        for given, taken in zip(short.parameters.values(), long.parameters.values(), strict=True):
            taken.copy_(given)
        after_2 = short.weights(short.run(torch.full((1, 3), 5))[1])["x.cms.F_2.down"]
        after_32 = long.weights(long.run(torch.full((1, 33), 5))[1])["x.cms.F_32.down"]
    assert size([after_2]) > 0, "it starts from zeros"
    torch.testing.assert_close(after_32, after_2)
