"""What inductor leaves to kernels of our own, in the graphs it compiles. Imported when something is compiled."""

from __future__ import annotations

from typing import Any

from nldsl.compiler import matrices
from nldsl.compiler.bodies import gemm, native, solve
from torch import fx
from torch._inductor import config
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

MADE_OF = (native, gemm, solve, matrices)


class Kernels(CustomGraphPass):
    """Products and triangular systems are left to them where that pays. inductor's cache depends on how these are
    chosen."""

    def __call__(self, graph: fx.Graph) -> None:
        if native.AT_HAND and not config.cpp_wrapper:  # which calls nothing that is written in Python
            gemm.chosen(graph)
            solve.chosen(graph)

    def uuid(self) -> Any:
        sources = (native.SHARED, gemm.SOURCE, solve.SOURCE)
        files = (__file__, *(str(module.__file__) for module in MADE_OF), *map(str, sources))
        return get_hash_for_files(files, str(native.AT_HAND))
