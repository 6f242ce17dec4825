"""The work of one operator: FLOPs of matrix products, and the bytes that it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from nldsl.compiler.cost.shapes import tensors_in
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

aten = torch.ops.aten

# Attention on a CPU is not in torch's own table; its operator has the arguments of the others.
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
FORMULAS = {**flop_registry, **ATTENTION}

# Of their first argument these read no more than they give.
GATHERS = {aten.embedding, aten.index, aten.index_select, aten.gather, aten.take}
# These write their first argument, and do not read it.
OVERWRITES = {aten.copy_, aten.fill_, aten.zero_}


@dataclass(slots=True)
class Work:
    """flops: of matrix products, a multiplication and an addition being two. bytes: read and written, each argument
    once, what is spread over an axis as often as it stands in memory."""

    flops: float = 0
    bytes: float = 0

    def add(self, other: Work, times: float = 1) -> None:
        self.flops += times * other.flops
        self.bytes += times * other.bytes


def work_of(func: Any, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Work:
    """kind: as in `Known`. A view moves nothing."""
    if kind == "view":
        return Work()
    packet = func._overloadpacket
    formula = FORMULAS.get(packet)
    flops = formula(*args, **kwargs, out_val=out) if formula else 0
    given = [touched(x) for x in tensors_in((*args, *kwargs.values()))]
    if kind == "write":
        written = touched(args[0]) if isinstance(args[0], Tensor) else sum(given[:1])
        read = sum(given[1:]) if packet in OVERWRITES else sum(given)
        return Work(flops, read + written)
    written = sum(touched(x) for x in tensors_in([out]))
    if packet in GATHERS and given:
        given[0] = min(given[0], written)
    return Work(flops, sum(given) + written)


def touched(x: Tensor) -> int:
    """The bytes of a tensor's numbers, those that are spread over an axis once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride or not size else 1
    return count
