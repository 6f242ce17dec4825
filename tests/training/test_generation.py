"""Generation: the same as reading the text at once, with a state that does not grow."""

from __future__ import annotations

from typing import Any

import torch
from nldsl.compiler.training.generation import generate
from torch import Tensor
from torch.utils._pytree import tree_leaves

import nldsl

TEXT = """\
model Mine(vocab = 256, dim = 6, window = 3) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = mlp(dim, expand = 1)
  k = x |> unit
  learn M : k -> x minimizing l2 by momentum(0.05) every token
  memory A = attention(window = window)
  learn A : x -> x every token
  memory F = matrix(dim)
  logits = M(k) + A(x) + F(x |> conv(4)) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn F minimizing loss by gd(0.1) every 4 tokens
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""


class Watched:
    """A module whose states are weighed as they come."""

    def __init__(self, module: Any) -> None:
        self.module, self.graph, self.device = module, module.graph, module.device
        self.sizes: list[int] = []

    def __call__(self, ids: Tensor, *, state: Any) -> Any:
        *outs, after = self.module(ids, state=state)
        self.sizes.append(sum(x.numel() for x in tree_leaves(after) if isinstance(x, Tensor)))
        return *outs, after


def test_each_byte_is_the_likeliest_after_all_before_it() -> None:
    module = nldsl.compile_text(TEXT)
    prompt = b"some words"
    written = list(generate(module, prompt, 12, temperature=0))
    with torch.no_grad():
        logits, _ = module(torch.tensor([[*prompt, *written]]))
    assert logits[0, len(prompt) - 1 : -1].argmax(-1).tolist() == written


def test_the_state_does_not_grow() -> None:
    watched = Watched(nldsl.compile_text(TEXT))
    list(generate(watched, b"ab", 41, temperature=0))  # type: ignore[arg-type]
    assert len(watched.sizes) == 41
    late = watched.sizes[8:]
    assert late[:32:4] == late[4:32:4] + late[:1], "the same at the same place of a segment"


def test_bytes_only_even_if_it_knows_more_tokens() -> None:
    module = nldsl.compile_text(TEXT, vocab=300)
    with torch.no_grad():
        dict(module.named_parameters())["logits.linear.w"].zero_()
    assert max(generate(module, b"a", 40, seed=3)) < 256
