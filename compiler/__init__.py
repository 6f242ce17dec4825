"""From the level graph to PyTorch. Read `compiled` first: it says what happens, a line for each floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nldsl.compiler.module import CompiledModule

    from nldsl.graph import LevelGraph


def compiled(graph: LevelGraph, **options: Any) -> CompiledModule:
<<<<<<< HEAD
    """A checked level graph -> a module. options: seed, dtype, only, device, memory_budget."""
=======
    """A checked level graph -> a module. options: seed, dtype, device, only."""
>>>>>>> 7eece1b30e2bf989f8dc8e3fbf2e65d061912fa9
    from nldsl.compiler.module import CompiledModule

    return CompiledModule(graph, **options)
