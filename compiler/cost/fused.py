"""Attention on the meta device as it runs on a real one: fused, without a matrix of all pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class FusedAttention(TorchFunctionMode):
    """Hands `scaled_dot_product_attention` to the fused operator where it has one; on the meta device torch would write
    it out. Keys and values of different sizes are written out on real devices too."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention or not fits(*args):
            return func(*args, **kwargs)
        mask = kwargs.get("attn_mask")
        if mask is not None and mask.dtype is torch.bool:
            zero = torch.zeros((), dtype=args[0].dtype, device=mask.device)
            mask = torch.where(mask, zero, -torch.inf)
        causal, scale = kwargs.get("is_causal", False), kwargs.get("scale")
        return FUSED(*args, is_causal=causal, attn_mask=mask, scale=scale)[0]


def fits(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    return q.shape[-1] == v.shape[-1] and q.dim() == 4
