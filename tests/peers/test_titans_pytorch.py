"""The library's rule of Titans beside `NeuralMemory` of titans-pytorch, on the queries, keys, values and gates that
module makes of its input.

With `chunk_size=1` the module has gates for every token, and its `batch_size` is the paper's chunk, whose gradients are
taken at the same weights; without one they are all taken at the first. Without norm and residual its network is the
library's `mlp`. Both write, then read. In float64, as the module computes in what it is given.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stdlib.comparing import BATCH, Named, agree, distance, keys, stirred
from torch import Tensor
from torch.func import functional_call

import nldsl

from .loading import peer

D, TICKS = 4, 11


def neural_memory(batch_size: int | None) -> Any:
    """Nothing is left where it starts. Steps are small, for with the usual ones the weights would leave all bounds."""
    module = peer("titans-pytorch", "titans_pytorch.neural_memory")
    torch.manual_seed(0)
    options = {"default_step_transform_max_lr": 0.1, "mem_model_norm_add_residual": False}
    return stirred(module.NeuralMemory(D, chunk_size=1, batch_size=batch_size, **options).double())


def drawn() -> Tensor:
    return keys(torch.Generator().manual_seed(1), (BATCH, TICKS, D)).requires_grad_()


def streams(memory: Any, x: Tensor) -> list[Tensor]:
    """q, k, v, eta, theta and alpha. The module's loss is the mean of the squared errors, and ours half their sum."""
    asked, told = memory.retrieve_norm(x), memory.store_norm(x)
    theta = 2 / D * memory.adaptive_step_transform(memory.to_adaptive_step(told))[..., None]
    eta, alpha = memory.to_momentum(told)[0].sigmoid(), memory.to_decay_factor(told).sigmoid()
    return [memory.to_queries(asked), memory.to_keys(told), memory.to_values(told), eta, theta, alpha]


def ours(memory: Any, x: Tensor, calls: list[slice], chunk: int) -> Named:
    rule = nldsl.compile("std.titans:TitansRule", d=D, chunk=chunk, expand=4, dtype=torch.float64)
    starts = dict(zip(("M.up", "M.down"), memory.memory_model_parameters, strict=True))
    given = streams(memory, x)
    answers, state = [], None
    for call in calls:
        y, state = functional_call(rule, starts, tuple(s[:, call] for s in given), {"state": state})
        answers.append(y.reshape(BATCH, -1, D))
    assert state is not None
    after: Named = rule.weights(state)
    return {"answers": torch.cat(answers, dim=1)} | after


def theirs(memory: Any, x: Tensor, calls: list[slice]) -> Named:
    answers, state = [], None
    for call in calls:
        y, state = memory(x[:, call], state=state)
        answers.append(y)
    assert state is not None
    up, down = (state.states[0][name][:, None] for name in memory.memory_model_parameter_names)
    return {"answers": torch.cat(answers, dim=1), "M.up": up, "M.down": down}


def with_gradients(values: Named, by: Named) -> Named:
    """The values, and the gradients of one random projection of them all."""
    random = torch.Generator().manual_seed(2)
    weighed = [(torch.randn(x.shape, generator=random, dtype=torch.float64) * x).sum() for x in values.values()]
    slopes = torch.autograd.grad(torch.stack(weighed).sum(), list(by.values()), allow_unused=True)
    reached = zip(by, slopes, strict=True)
    return values | {f"gradient by {name}": slope for name, slope in reached if slope is not None}


CHUNKS = pytest.mark.parametrize(("batch_size", "chunk"), [(1, 1), (3, 3), (None, TICKS)])


@CHUNKS
def test_the_rule_is_neural_memory_s(batch_size: int | None, chunk: int) -> None:
    memory, x = neural_memory(batch_size), drawn()
    by = {"x": x, **dict(memory.named_parameters())}
    found = with_gradients(ours(memory, x, [slice(None)], chunk), by)
    expected = with_gradients(theirs(memory, x, [slice(None)]), by)
    assert found.keys() == expected.keys()
    agree({name: distance(found[name], value) for name, value in expected.items()})


@CHUNKS
@pytest.mark.parametrize("cut", [1, 4])
def test_also_in_two_calls(batch_size: int | None, chunk: int, cut: int) -> None:
    """Without gradients: to the library a state is data, and the module's goes on with its graph."""
    memory, x = neural_memory(batch_size), drawn()
    calls = [slice(0, cut), slice(cut, None)]
    found, expected = ours(memory, x, calls, chunk), theirs(memory, x, calls)
    agree({name: distance(found[name], value) for name, value in expected.items()})
