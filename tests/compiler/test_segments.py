"""Learning from the model's own loss: gradients of gradients through everything inside a segment."""

from __future__ import annotations

import torch
from nldsl.compiler import replays, segments
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.reference import Interpreter

import nldsl

HOPE_ATTENTION = """
from std.transformer import Attention

block OpenCMS(dim, periods = [4, 8], lr = 0.1) over x: [dim] -> [dim] {
  for p in periods {
    memory F = mlp(dim, expand = 2)
    x = x + F(rmsnorm(x))
    learn F minimizing loss by gd(lr / p) every p tokens
  }
  return x
}

model HopeAttention(vocab = 11, dim = 8, depth = 2, heads = 2) over ids: int {
  x = ids |> embed(vocab, dim)
  repeat depth {
    x = x + (x |> rmsnorm |> Attention(dim, heads))
    x = x |> OpenCMS(dim)
  }
  logits = x |> rmsnorm |> linear(vocab)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by gd(0.5) every step
  return logits
}
"""


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b)) / max(1.0, float(torch.linalg.vector_norm(b)))


def test_attention_inside_a_segment_has_gradients_of_gradients() -> None:
    graph = nldsl.load_text(HOPE_ATTENTION)
    ids = torch.randint(11, (2, 19), generator=torch.Generator().manual_seed(0))
    module, meaning = CompiledModule(graph, dtype=torch.float64), Interpreter(graph)
    named = dict(module.named_parameters())
    losses, _ = meaning.losses(ids)
    expected = torch.stack([torch.stack(row) for row in losses]).mean()
    wanted = torch.autograd.grad(expected, list(meaning.parameters.values()))
    loss = module.loss(ids)
    found = torch.autograd.grad(loss, [named[n] for n in meaning.parameters])
    assert apart(loss.detach(), expected.detach()) <= 1e-10
    for name, a, b in zip(meaning.parameters, found, wanted, strict=True):
        assert apart(a, b) <= 1e-10, name


def test_hope_attention_trains_through_its_writes() -> None:
    ids = torch.arange(24).remainder(11)[None].repeat(2, 1)
    module = nldsl.compile_text(HOPE_ATTENTION)
    [optimizer] = module.optimizers()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = module.loss(ids)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_a_segment_and_its_gradient_compile_in_one_piece() -> None:
    graph = nldsl.load("std.hope:HopeAttention", vocab=11, dim=8, depth=1, heads=2, periods=[4, 8])
    runner = CompiledModule(graph, dtype=torch.float64).runner
    parameters = {n: p.detach() for n, p in CompiledModule(graph, dtype=torch.float64).named_parameters()}
    ids = torch.randint(11, (2, 5, 1), generator=torch.Generator().manual_seed(0))
    learn = segments.loss_learns(graph)[0]
    leaves = [(m, leaf.name) for m in learn.memories for leaf in graph.memories[m].leaves]

    def gradients(given: torch.Tensor, following: torch.Tensor) -> list[torch.Tensor]:
        opening = [{"frame": {}, "inputs": {"ids": given}, "notes": {}}]
        last = {m: 0 for o in segments.loss_learns(graph) for m in o.memories}
        found = replays.replayed(runner, opening, 4, learn, leaves, None, {"ids": following}, parameters, last)
        return list(found.values())

    compiled = torch.compile(gradients, fullgraph=True, backend="aot_eager")
    expected = gradients(ids[:, :4], ids[:, 4:])
    assert any(float(g.abs().max()) > 0 for g in expected)
    for a, b in zip(compiled(ids[:, :4], ids[:, 4:]), expected, strict=True):
        assert apart(a, b) <= 1e-10
