"""Kernels of our own in what inductor compiles for a CPU with AVX-512: how one is built, and how it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch._inductor import ir
from torch._inductor.codecache import CppPythonBindingsCodeCache

SHARED = Path(__file__).with_name("vectors.h")
FLAGS = ("-mavx512f", "-mfma")
AT_HAND = torch.backends.cpu.get_cpu_capability() == "AVX512" and sys.platform != "win32"
NUMBERS = {torch.float32: "float", torch.float64: "double"}


class _Bindings(CppPythonBindingsCodeCache):
    """torch's bindings, which know no double."""

    extra_parse_arg = """
        template <> inline double parse_arg<double>(PyObject* args, size_t n) {{
            auto result = PyFloat_AsDouble(PyTuple_GET_ITEM(args, n));
            if(result == -1.0 && PyErr_Occurred()) [[unlikely]]
                throw std::runtime_error("expected float arg");
            return result;
        }}
    """


@cache
def built(source: Path, dtype: torch.dtype, tensors: int, integers: int, factors: int = 0) -> Callable[..., None]:
    """The kernel of a file for numbers of a dtype. It takes so many tensors, the last of which it writes, then so many
    integers, then so many numbers of that dtype."""
    number = NUMBERS[dtype]
    arguments = [f"const {number}*"] * (tensors - 1) + [f"{number}*"] + ["int64_t"] * integers + [number] * factors
    text = SHARED.read_text() + source.read_text()
    made: Callable[..., None] = _Bindings.load_pybinding(arguments, text, extra_flags=(*FLAGS, f"-DNUMBER={number}"))
    return made


class Call(ir.ExternKernelOut):
    """A call, in what inductor writes, of the function `kernel` of the module that its class is in. It is told where
    numbers lie: no view is made at run time."""

    def told(self) -> tuple[list[Any], list[Any]]:
        """The tensors that are read, then numbers."""
        raise NotImplementedError

    def codegen(self, wrapper: Any) -> None:
        module, dtype = type(self).__module__, self.get_dtype()
        short = module.rpartition(".")[2]
        name = f"{short}_{NUMBERS[dtype]}"
        for line in (f"from {module} import kernel as {short}_kernel", f"{name} = {short}_kernel({dtype})"):
            wrapper.add_import_once(line)
        tensors, numbers = self.told()
        given = [*(x.get_name() for x in (*tensors, self)), *map(wrapper.codegen_sizevar, numbers)]
        self.codegen_comment(wrapper)
        wrapper.writeline(f"{name}({', '.join(given)})")


def lies(x: Any) -> list[Any]:
    """Where its numbers begin in the tensor of its name, and the steps to the next matrix, row and column."""
    first = x.get_layout().offset if isinstance(x, ir.ReinterpretView) else 0
    return [first, *([0, *x.get_stride()])[-3:]]
