"""What the benchmark calls the same is the same: with our parameters, the other side has our answers and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed import byhand, byhand_delta, byhand_ttt, ours, peers
from benchmarks.speed.jobs import DIM

TOLERANCE = 1e-5  # positions are in float32
IN_FLOAT32 = {"gated-deltanet": 1e-4}  # whatever the form is given; with these casts taken out it agrees to 2e-14
TICKS = 128
LLAMA = "llama"

SAME: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "transformer": (partial(ours.block, "transformer_block.nl:TransformerBlock"), byhand.transformer),
    "ttt-mlp": (partial(ours.block, "std.ttt:TTTMLP", chunk=16), partial(byhand_ttt.ttt_mlp, chunk=16)),
    "deltanet": (partial(ours.block, "std.delta:DeltaNet"), partial(byhand_delta.deltanet, chunk=64)),
    "gated-deltanet": (partial(ours.block, "std.delta:GatedDeltaNet"), partial(byhand_delta.gated_deltanet, chunk=64)),
    "unnamed": (
        partial(ours.block, "unnamed.nl:Unnamed", chunk=64),
        partial(ours.block, "unnamed.nl:Unnamed", chunk=64, only="recurrence"),
    ),
    LLAMA: (partial(ours.block, "std.transformer:TransformerPlusPlus"), peers.llama),
}


@pytest.mark.parametrize("name", SAME)
def test_both_sides_are_one_function(name: str) -> None:
    try:
        left, right = (build(TICKS).module.double() for build in SAME[name])
    except peers.Absent as absent:
        pytest.skip(str(absent))
    tolerance = IN_FLOAT32.get(name, TOLERANCE)
    layout = transposed if name == LLAMA else torch.clone
    pairs = list(
        zip(left.parameters(), llama_in_our_order(right) if name == LLAMA else right.parameters(), strict=True)
    )
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own, other in pairs:
            own += 0.1 * torch.randn(own.shape, generator=random).double()
            other.copy_(layout(own))
    x = torch.randn(2, TICKS, DIM, generator=random).double()
    answers = [answer(module, x) for module in (left, right)]
    along = torch.randn(answers[0].shape, generator=random).double()
    for y in answers:
        torch.autograd.backward((y * along).sum())
    assert apart(answers[1], answers[0]) < tolerance
    for own, other in pairs:
        assert own.grad is not None and other.grad is not None
        assert apart(other.grad, layout(own.grad)) < tolerance


def answer(module: nn.Module, x: Tensor) -> Tensor:
    y = module(x)
    first: Tensor = y[0] if isinstance(y, tuple) else y
    return first


def transposed(own: Tensor) -> Tensor:
    """A linear map of torch's is [out, in]."""
    return own.mT if own.dim() == 2 else own


def llama_in_our_order(module: nn.Module) -> list[nn.Parameter]:
    """By hand, parameters stand in the program's order; those of the Llama layer have names of their own."""
    attention = (f"self_attn.{part}_proj" for part in "qkvo")
    network = (f"mlp.{part}_proj" for part in ("gate", "up", "down"))
    names = ("input_layernorm", *attention, "post_attention_layernorm", *network)
    return [module.get_parameter(f"layer.{name}.weight") for name in names]


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm().clamp(min=1e-9))
