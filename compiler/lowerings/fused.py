"""Loops by kernels: on a GPU, in half precision, where flash-linear-attention is installed."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import torch
from nldsl.compiler.distribute import Loop
from nldsl.compiler.lowerings.closed import Ticks
from nldsl.compiler.lowerings.kernels import Fused
from nldsl.compiler.lowerings.told import Unfit
from nldsl.compiler.lowerings.weight import Weight
from nldsl.compiler.piece import Piece
from nldsl.compiler.transforms import transformed
from torch import Tensor


def run(piece: Piece, chunks: Loop) -> bool:
    """Run the ticks of a loop over chunks, all of a piece at once. False where no kernel can."""
    low, (loop,) = precision(piece), chunks.stages
    if low is None or piece.ticks == 1:
        return False
    assert isinstance(loop, Loop)
    # On a copy, so that nothing is left of a piece with a decay that turns out to be too small.
    tried = replace(piece, values=dict(piece.values), frame=dict(piece.frame))
    try:
        _Ticks(tried, loop, low).run()
    except Unfit:
        return False
    piece.values.update(tried.values)
    piece.frame = tried.frame
    return True


def precision(piece: Piece) -> torch.dtype | None:
    """The type of the kernels' products, None where they can't run: they can be differentiated once, not traced."""
    if piece.plain or piece.second_order or transformed() or torch.compiler.is_compiling():
        return None
    if piece.clock.device.type != "cuda":
        return None
    low = piece.machine.low or piece.machine.dtype
    half, there = low in (torch.bfloat16, torch.float16), find_spec("fla") is not None
    return low if half and there and not torch.cuda.is_current_stream_capturing() else None


class _Ticks(Ticks):
    def __init__(self, piece: Piece, loop: Loop, low: torch.dtype) -> None:
        super().__init__(piece, loop)
        self.low = low

    def made(self, value: Tensor) -> Weight:
        return Fused(value.to(torch.promote_types(value.dtype, torch.float32)), self.piece.ticks, self.low)
