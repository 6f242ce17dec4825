"""What inductor does to its graphs besides its own passes: imported when something is compiled."""

from __future__ import annotations

from typing import Any

from nldsl.compiler import matrices
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files


class Passes(CustomGraphPass):
    """Large products are made as elsewhere. inductor's cache depends on how these are chosen."""

    def __call__(self, graph: fx.Graph) -> None:
        matrices.chosen(graph)

    def uuid(self) -> Any:
        return get_hash_for_files((matrices.__file__, __file__), str(matrices.AT_HAND))
