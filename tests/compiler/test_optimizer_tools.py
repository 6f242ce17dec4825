"""The optimizer of a compiled module, as torch's tools use it: windows, checkpoints, schedulers, hooks, closures."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from nldsl.compiler import compiled
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training.pack import pack, unpack
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR

import nldsl

TEXT = """
retention counted(keep) over w, u {
  state n = 0
  n <- n + 1
  return keep * w + u / n
}
model Two() over x: [4], t: [4] {
  memory A = matrix(4)
  memory B = mlp(4, expand = 1)
  y = A(x) + B(x)
  loss = l2(y, t)
  LEARNS
  return y
}
"""

Batch = tuple[Tensor, Tensor]


def module_of(learns: str, dtype: torch.dtype = torch.float64) -> CompiledModule:
    return compiled(nldsl.load_text(TEXT.replace("LEARNS", learns)), dtype=dtype)


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    sizes = (count, 2, 2, 3, 4)  # batches, x and t, rows, ticks, shape
    return [(x, t) for x, t in torch.randn(sizes, generator=generator, dtype=torch.float64)]


def train(module: CompiledModule, optimizer: torch.optim.Optimizer, data: Sequence[Batch]) -> None:
    for x, t in data:
        module.backward(x, t)
        optimizer.step()
        optimizer.zero_grad()


def values(module: CompiledModule) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_group_for_each_learn_in_the_order_of_the_text() -> None:
    module = module_of(
        "learn B minimizing loss by adam(0.1) every 8 steps  learn * minimizing loss by gd(0.1) every step"
    )
    [optimizer] = module.optimizers()
    groups = optimizer.param_groups
    assert [(g["learn"], g["every"], g["lr"]) for g in groups] == [("learn B", 8, 1.0), ("learn *", 1, 1.0)]
    assert [g["param_names"] for g in groups] == [["B.up", "B.down"], ["A.w"]]
    named = dict(module.named_parameters())
    assert all(named[n] is p for g in groups for n, p in zip(g["param_names"], g["params"], strict=True))


def test_a_program_without_a_step_has_no_optimizer() -> None:
    assert compiled(nldsl.load_text("block Plain() over x: [2] -> [2] { return x |> linear(2) }")).optimizers() == []


# Windows


def test_every_8_steps_takes_the_mean_of_8_steps() -> None:
    """The eighth step writes, once, by the mean of eight gradients at the same weights; the next window begins anew."""
    module = module_of("learn * minimizing loss by gd(0.1) every 8 steps")
    [optimizer] = module.optimizers()
    for data in (batches(8), batches(16)[8:]):
        start = values(module)
        losses = torch.stack([module.loss(x, t) for x, t in data])
        means = torch.autograd.grad(losses.mean(), list(module.parameters()))
        train(module, optimizer, data[:7])
        assert same(values(module), start)
        train(module, optimizer, data[7:])
        for (name, p), g in zip(module.named_parameters(), means, strict=True):
            assert torch.allclose(p, start[name] - 0.1 * g, rtol=1e-12, atol=1e-14)


def test_two_learns_have_rules_and_paces_of_their_own() -> None:
    """Two of torch's optimizers, the second taking a step at every third of the first."""
    module = module_of(
        """learn A minimizing loss by nesterov(0.1) every step
           learn B minimizing loss by adam(0.01) every 3 steps"""
    )
    [optimizer] = module.optimizers()
    theirs = {n: torch.nn.Parameter(x) for n, x in values(module).items()}
    fast = torch.optim.SGD([theirs["A.w"]], lr=0.1, momentum=0.9, nesterov=True)
    slow = torch.optim.Adam([theirs["B.up"], theirs["B.down"]], lr=0.01)
    for x in theirs.values():
        x.grad = torch.zeros_like(x)
    for number, (x, t) in enumerate(batches(7), 1):
        module.backward(x, t)
        for name, p in module.named_parameters():
            theirs[name].grad += p.grad / (1 if name == "A.w" else 3)
        optimizer.step()
        optimizer.zero_grad()
        for other in (fast, slow) if number % 3 == 0 else (fast,):
            other.step()
            other.zero_grad(set_to_none=False)
        for name, p in module.named_parameters():
            assert torch.allclose(p, theirs[name], rtol=1e-12, atol=1e-14), (number, name)


def test_a_gradient_of_none_counts_as_zero() -> None:
    """Decay acts and momentum goes on. A parameter that requires no gradient is left alone."""
    module = module_of("learn * minimizing loss retaining decay(0.5) by momentum(0.1, 0.5) every step")
    [optimizer] = module.optimizers()
    start = values(module)
    train(module, optimizer, batches(1))
    once = values(module)
    module.get_parameter("B.up").requires_grad_(False)
    optimizer.step()
    for name, p in module.named_parameters():
        first = once[name] - 0.5 * start[name]  # the update of the first step
        expected = once[name] if name == "B.up" else 0.5 * once[name] + 0.5 * first
        assert torch.allclose(p, expected, rtol=1e-12, atol=1e-14)


# Checkpoints


def through_torch(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_a_checkpoint(state: Any) -> Any:
    tensors: dict[str, Tensor] = {}
    return unpack(pack(state, "", tensors), tensors)


LEARNS = [
    "learn * minimizing loss retaining counted(0.9) by adamw(0.01) every 3 steps",
    """learn A minimizing loss by deep_momentum(0.01) every 2 steps
       learn * minimizing loss by m3(0.01, slow_every = 2) every step""",
]


@pytest.mark.parametrize(("dtype", "carried"), [(torch.float32, through_torch), (torch.float64, through_a_checkpoint)])
@pytest.mark.parametrize("learns", LEARNS)
def test_a_run_goes_on_bit_by_bit(learns: str, dtype: torch.dtype, carried: Callable[[Any], Any]) -> None:
    """Saved at every step, in the middle of windows or not, before the first write and after."""
    data = batches(7)
    whole = module_of(learns, dtype)
    [optimizer] = whole.optimizers()
    saved = []
    for batch in data:
        saved.append((carried(whole.state_dict()), carried(optimizer.state_dict())))
        train(whole, optimizer, [batch])
    for number, (parameters, state) in enumerate(saved):
        again = module_of(learns, dtype)
        again.load_state_dict(parameters)
        [other] = again.optimizers()
        other.load_state_dict(state)
        train(again, other, data[number:])
        assert same(values(again), values(whole)), number


def test_counters_stay_whole_numbers() -> None:
    module = module_of("learn * minimizing loss by adam(0.1) every step", torch.float32)
    [optimizer], [other] = module.optimizers(), module.optimizers()
    train(module, optimizer, batches(2))
    other.load_state_dict(optimizer.state_dict())
    for state in other.state.values():
        [count] = [x for n, x in state["optimizer"].items() if n.endswith("count")]
        assert count.dtype is torch.int64 and count.tolist() == [[[2]]]
        assert all(x.dtype is torch.float32 for n, x in state["optimizer"].items() if not n.endswith("count"))


def test_a_state_of_other_learns_is_refused() -> None:
    [optimizer] = module_of("learn * minimizing loss by gd(0.1) every step").optimizers()
    [other] = module_of("learn A, B minimizing loss by gd(0.1) every step").optimizers()
    with pytest.raises(ValueError, match=r"of the learns \['learn A, B'\], and these are \['learn \*'\]"):
        optimizer.load_state_dict(other.state_dict())


# Schedulers, hooks, closures


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (lambda o: LambdaLR(o, lambda n: 1 / (n + 1)), [1, 1 / 2, 1 / 3, 1 / 4]),
        (lambda o: StepLR(o, 2, gamma=0.1), [1, 1, 0.1, 0.1]),
    ],
)
@pytest.mark.parametrize("retaining", ["", "retaining decay(0.5)"])
def test_a_scheduler_scales_the_update(
    schedule: Callable[[torch.optim.Optimizer], LRScheduler], factors: list[float], retaining: str
) -> None:
    """Not what is retained: w <- keep w - factor * 0.1 g."""
    keep = 0.5 if retaining else 1
    module = module_of(f"learn * minimizing loss {retaining} by gd(0.1) every step")
    [optimizer] = module.optimizers()
    scheduler = schedule(optimizer)
    for factor, (x, t) in zip(factors, batches(4), strict=True):
        before = values(module)
        module.backward(x, t)
        grads = {n: p.grad for n, p in module.named_parameters()}
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        for name, p in module.named_parameters():
            g = grads[name]
            assert g is not None
            assert torch.allclose(p, keep * before[name] - factor * 0.1 * g, rtol=1e-12, atol=1e-14)


def test_hooks_and_closures() -> None:
    """A step calls its closure with gradients on, and the hooks around it."""
    module = module_of("learn * minimizing loss by gd(0.1) every step")
    [optimizer] = module.optimizers()
    [(x, t)] = batches(1)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))

    def closure() -> float:
        called.append("loss")
        optimizer.zero_grad()
        loss = module.loss(x, t)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with torch.no_grad():
        first, second = optimizer.step(closure), optimizer.step(closure)
    assert second < first
    assert called == ["before", "loss", "after"] * 2
