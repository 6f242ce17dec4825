"""From a level graph, or from a checkpoint, to a module on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nldsl.compiler import compiled
from nldsl.compiler.training import checkpoint
from nldsl.compiler.training.checkpoint import Checkpoint
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.frozen import frozen

from nldsl.graph import LevelGraph

if TYPE_CHECKING:
    from nldsl.compiler.module import CompiledModule

AUTO = "auto"


def device_of(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`; `auto` is a GPU where there is one. Raises TrainingError if there is no such device."""
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise TrainingError(f"this machine and its PyTorch have no device `{name}`; use --device cpu") from None
    return device


def build(
    graph: LevelGraph, device: torch.device, seed: int = 0, compile_bodies: bool = False, memory_budget: int = 0
) -> CompiledModule:
    """The module of a checked graph, its parameters drawn with `seed`. memory_budget: bytes, as `nldsl.compile` has."""
    module = compiled(graph, seed=seed, memory_budget=memory_budget).to(device)
    if compile_bodies:
        module.compile()
    return module


def restored(folder: Path, device: torch.device) -> tuple[CompiledModule, Checkpoint]:
    """The module that a training run left in a folder. Raises TrainingError where there is none that can be had."""
    kept = checkpoint.read(folder)
    module = build(kept.source.graph(kept.version), device)
    module.load_state_dict(kept.parameters)
    return module, kept


def without_learning(module: CompiledModule) -> CompiledModule:
    """The same model with the memories that learn on the token clock at their learned starts."""
    plain = build(frozen(module.graph), module.device)
    own = set(plain.state_dict())  # an optimizer's own memories go with the learn they serve
    plain.load_state_dict({name: value for name, value in module.state_dict().items() if name in own})
    return plain
