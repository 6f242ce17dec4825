"""What torch may be doing with the operators of a program, besides running them."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def transformed() -> bool:
    """Whether a transform of `torch.func` is under way, or derivatives are taken forwards."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
