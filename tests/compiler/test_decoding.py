"""Reading a token at a time: what a GPU is waited for, and whether a step is like the one before.

A graph of a device's kernels can be recorded only of steps that look at no number of the device, and whose tensors keep
their shapes. The number of the program and that of the tick are the CPU's.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import nldsl

VOCAB, SIZES = 16, {"dim": 16, "heads": 2}
PROGRAMS: dict[str, dict[str, int]] = {
    "std.delta:GatedDeltaNet": {},
    "std.linear_attention:LinearAttention": {},
    "std.titans:LMM": {"chunk": 4},
    "std.ttt:TTTMLP": {"chunk": 4},
    "std.atlas:Atlas": {"window": 3},
    "std.hope:SelfModifyingTitans": {"chunk": 4},
    "std.miras:Yaad": {},
}
WAITING = {"nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2"}


class Waits(TorchDispatchMode):
    """Notes what looks at numbers of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.on: list[tuple[str, int, torch.dtype]] = []

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = f._schema.name.removeprefix("aten::")
        if name == "_local_scalar_dense" or name in WAITING:
            self.on.append((name, args[0].dim(), args[0].dtype))
        return f(*args, **(kwargs or {}))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_step_waits_for_nothing_and_keeps_its_shapes(program: str) -> None:
    module = nldsl.compile(program, as_model=True, vocab=VOCAB, **SIZES, **PROGRAMS[program])
    ids = torch.randint(VOCAB, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = module(ids[:, :12])
        kept = shapes(state)
        for t in range(12, 30):  # long enough for bodies to be traced
            with Waits() as waits:
                _, state = module(ids[:, t : t + 1], state)
            assert waits.on == [("_local_scalar_dense", 0, torch.int64)] * 2, "the numbers of the program and the tick"
            assert shapes(state) == kept


def test_the_number_of_a_tick_is_on_the_cpu() -> None:
    module = nldsl.compile("std.delta:DeltaNet", as_model=True, vocab=VOCAB, device="meta", **SIZES)
    state = module.initial_state(2)
    assert state["parts"][0]["rows"].device.type == "meta"
    assert [x.device.type for x in (state["program"], state["parts"][0]["tick"])] == ["cpu", "cpu"]


def shapes(state: Any) -> list[torch.Size]:
    return [x.shape for x in tree_leaves(state) if isinstance(x, Tensor)]
