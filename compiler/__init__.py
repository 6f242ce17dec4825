"""From the level graph to PyTorch. Read `compiled` first: it says what happens, a line for each floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nldsl.collecting import uncollected

if TYPE_CHECKING:
    from nldsl.compiler.module import CompiledModule

    from nldsl.graph import LevelGraph


@uncollected()
def compiled(graph: LevelGraph, **options: Any) -> CompiledModule:
    """A checked level graph -> a module. options: seed, dtype, only, device, memory_budget."""
    from nldsl.compiler.module import CompiledModule

    return CompiledModule(graph, **options)
