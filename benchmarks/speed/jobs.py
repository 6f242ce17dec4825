"""What one side of a comparison does: one forward and one backward of one block, at the shapes that all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DIM, HEADS, BATCH, VOCAB = 256, 4, 2, 256


@dataclass
class Job:
    """step: forward and backward once, gradients taken anew. module: whose parameters get them, and whose `compile`
    hands it to torch.compile."""

    module: nn.Module
    step: Callable[[], None]


@dataclass(frozen=True)
class Side:
    """name: as the table shows it. build: from the number of tokens; raises `peers.Absent`. compiled: whether it's
    timed after `Job.module.compile()`. packages: the distributions whose versions the results name. warming: how many
    steps it takes at least until nothing is traced or compiled any more."""

    name: str
    build: Callable[[int], Job]
    compiled: bool = False
    packages: tuple[str, ...] = ()
    warming: int = 2


def block_job(module: nn.Module, length: int) -> Job:
    """A block over x [BATCH, length, DIM], whose answer is what the module gives or the first thing it gives. The loss
    is the mean square; x has a gradient too, as inside a network."""
    x = torch.randn(BATCH, length, DIM, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def step() -> None:
        forget(module)
        x.grad = None
        y = module(x)
        answer: Tensor = y[0] if isinstance(y, tuple) else y
        torch.autograd.backward(answer.square().mean())

    return Job(module, step)


def tokens(length: int) -> Tensor:
    """ids [BATCH, length]."""
    return torch.randint(VOCAB, (BATCH, length), generator=torch.Generator().manual_seed(0))


def forget(module: nn.Module) -> None:
    """No gradients, so that a step neither adds to them nor finds their memory ready."""
    for parameter in module.parameters():
        parameter.grad = None
