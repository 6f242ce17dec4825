"""Blocks of the standard library as they are compiled, beside the same written by hand.

`differences` is for rules: a block over streams and the oracle of its equations. `wiring` is for blocks around them:
projections, norms and gates composed in plain PyTorch. Both give, by name, how far apart the two are; `agree` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from nldsl.compiler.module import CompiledModule
from torch import Tensor
from torch.nn.functional import pad

import nldsl
from nldsl.modules import library

from .oracles import attention

TOLERANCE = 1e-10  # of a difference's norm, relative to norms beyond one
BATCH = 2

Named = dict[str, Tensor]
Oracle = Callable[[Named, Named], tuple[Tensor, Named]]
Draw = Callable[[torch.Generator, tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Row:
    """A rule and its oracle.

    program: as `std.delta:DeltaRule`, or the name of a definition in the `text`, where that is given. streams: by the
    name of each input, how it is drawn. oracle: from the streams [T, ...] of one sequence and the parameters, each by
    its name in the program, to the answers [T, ...] and the running weights after the last token, again by their names.
    hyper: what is given beside the sizes. learned: whether memories that start from zeros get a learned start for the
    comparison.
    """

    program: str
    oracle: Oracle
    streams: Mapping[str, Draw]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    learned: bool = True
    text: str = ""


# Streams


def vectors(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def keys(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Correlated: all lean to one direction, and every third is the one before. Of length 1."""
    x = vectors(random, shape) + 2 * vectors(random, (shape[0], 1, *shape[2:]))
    x[:, 2::3] = x[:, 1:-1:3]
    length: Tensor = torch.linalg.norm(x, dim=-1, keepdim=True)
    return x / length


def gates(*extremes: float) -> Draw:
    """Uniform in (0, 1), but in one place of three one of the extremes."""

    def draw(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        usual = torch.rand(shape, generator=random, dtype=torch.float64)
        chosen = torch.tensor(extremes, dtype=torch.float64)[torch.randint(len(extremes), shape, generator=random)]
        return torch.where(torch.rand(shape, generator=random) < 1 / 3, chosen, usual)

    return draw


# Rules


def rule(row: Row, **options: Any) -> CompiledModule:
    """The module of a row, with nothing left at zero."""
    path, _, name = row.program.removeprefix("std.").rpartition(":")
    text = row.text or (library() / f"{path}.nl").read_text(encoding="utf-8")
    if row.learned:
        text = text.replace(" from zeros", "")
    return stirred(nldsl.compile_text(text, name, dtype=torch.float64, **row.hyper, **options))


def stirred(module: CompiledModule) -> CompiledModule:
    random = torch.Generator().manual_seed(7)
    for value in module.parameters():
        value.data += 0.3 * torch.randn(value.shape, generator=random, dtype=torch.float64)
    return module


def differences(row: Row, ticks: int, seed: int = 0, patience: int | None = None, **options: Any) -> dict[str, float]:
    """How far the compiled rule is from its oracle: the answers, the weights after the last token, and the gradients
    of a random projection of both by every input and every start. options: sizes, and those of `nldsl.compile`."""
    module = rule(row, **options)
    if patience is not None:
        module.runner.steps.patience = patience
    random = torch.Generator().manual_seed(seed)
    given = drawn(row, module, ticks, random)
    y, state = module(*given.values())
    found = {"answers": y.reshape(BATCH, ticks, -1)}  # also without the axis of heads
    found |= {name: _one_head(module, name, w, axis=1) for name, w in module.weights(state).items()}

    runs = wanted(row, module, given)
    expected = {"answers": torch.stack([answers.flatten(1) for answers, _ in runs])}
    expected |= {name: torch.stack([after[name] for _, after in runs]) for name in runs[0][1]}
    return _apart(found, expected, given | dict(module.named_parameters()), random)


def carried(row: Row, ticks: int, cut: int, **options: Any) -> dict[str, float]:
    """How far the answers are from the oracle's where a second call goes on with the state of the first."""
    module = rule(row, **options)
    given = drawn(row, module, ticks, torch.Generator().manual_seed(0))
    first, state = module(*(x[:, :cut] for x in given.values()))
    second, _ = module(*(x[:, cut:] for x in given.values()), state=state)
    found = torch.cat([first, second], dim=1).reshape(BATCH, ticks, -1)
    return {"answers": distance(found, torch.stack([y.flatten(1) for y, _ in wanted(row, module, given)]))}


def drawn(row: Row, module: CompiledModule, ticks: int, random: torch.Generator) -> Named:
    shapes = {port.id: (BATCH, ticks, *map(int, port.shape)) for port in module.graph.tick.inputs}
    return {name: row.streams[name](random, shape).requires_grad_() for name, shape in shapes.items()}


def wanted(row: Row, module: CompiledModule, given: Named) -> list[tuple[Tensor, Named]]:
    """What the oracle says of each sequence."""
    starts = {name: _one_head(module, name, p, axis=0) for name, p in module.named_parameters()}
    return [row.oracle({n: x[b] for n, x in given.items()}, starts) for b in range(BATCH)]


def _one_head(module: CompiledModule, name: str, value: Tensor, axis: int) -> Tensor:
    """Without the axis of its only head, as the oracles have it."""
    memory = module.graph.memories.get(name.rpartition(".")[0])
    return value.squeeze(axis) if memory and memory.heads else value


def _apart(found: Named, expected: Named, by: Named, random: torch.Generator) -> dict[str, float]:
    """Of values by name, and of the gradients of one projection of them all by these leaves."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    weights = {name: torch.randn(x.shape, generator=random, dtype=torch.float64) for name, x in expected.items()}
    slopes = []
    for values in (found, expected):
        total = torch.stack([(weights[name] * x).sum() for name, x in values.items()]).sum()
        slopes.append(torch.autograd.grad(total, list(by.values()), allow_unused=True))
    apart = {name: distance(found[name], x) for name, x in expected.items()}
    for (name, leaf), a, b in zip(by.items(), *slopes, strict=True):
        zero = torch.zeros_like(leaf)
        apart[f"gradient by {name}"] = distance(zero if a is None else a, zero if b is None else b)
    return apart


def distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to norms beyond one; infinite where the shapes or finiteness differ."""
    if found.shape != expected.shape or not bool(expected.isfinite().all()):
        return float("inf")
    gap = float((found - expected).detach().norm() / expected.detach().norm().clamp(min=1))
    return gap if gap == gap else float("inf")


def agree(apart: Mapping[str, float]) -> None:
    assert apart
    assert max(apart.values()) <= TOLERANCE, {name: gap for name, gap in apart.items() if gap > TOLERANCE}


# Wiring


def wiring(program: str, by_hand: Callable[[Tensor, Named], Tensor], ticks: int = 9, **hyper: Any) -> dict[str, float]:
    """How far a block over x: [dim] is from what is composed by hand of x [T, dim] and its parameters: the answers, and
    the gradients of a random projection by x and by every parameter."""
    module = stirred(nldsl.compile(program, dtype=torch.float64, **hyper))
    random = torch.Generator().manual_seed(0)
    x = vectors(random, (BATCH, ticks, hyper["dim"])).requires_grad_()
    named = dict(module.named_parameters())
    y, _ = module(x)
    expected = torch.stack([by_hand(row, named) for row in x])
    return _apart({"answers": y}, {"answers": expected}, {"x": x} | named, random)


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of x [T, d] with its own last `width` tokens, kernel [width, d]."""
    width = len(kernel)
    padded = pad(x, (0, 0, width - 1, 0))
    return torch.stack([(kernel * padded[t : t + width]).sum(0) for t in range(len(x))])


def unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def rmsnorm(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def by_head(of_one: Callable[..., Tensor], heads: int, *streams: Tensor) -> Tensor:
    """A rule over streams of one head, applied to each share of the last axis; streams [T, heads * n], [T, out]."""
    shares = [x.chunk(heads, dim=-1) for x in streams]
    return torch.cat([of_one(*parts) for parts in zip(*shares, strict=True)], dim=-1)


def attended(x: Tensor, p: Named, prefix: str, window: int = 0, heads: int = 2) -> Tensor:
    """`Attention` over x [T, dim], its parameters behind a prefix; window 0 for all."""
    q, k, v = (x @ p[f"{prefix}{name}.linear.w"] for name in "qkv")
    at = torch.arange(len(x))

    def of_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention.softmax_attention(attention.rope(q, at), attention.rope(k, at), v, window)[0]

    return by_head(of_one, heads, q, k, v) @ p[f"{prefix}linear.w"]
