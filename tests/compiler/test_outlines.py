"""Elementwise operators as a trial runs them: the shapes and types of torch's own, without its compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from nldsl.compiler.lowerings.outlines import Outlines
from torch import Tensor

META = torch.device("meta")
EACH: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    lambda x, w, n: x * w,
    lambda x, w, n: 1 - x,
    lambda x, w, n: x**2,
    lambda x, w, n: n + 1,
    lambda x, w, n: n * 0.5,
    lambda x, w, n: n % 2,
    lambda x, w, n: x * n,
    lambda x, w, n: x.double() * w,
    lambda x, w, n: w * torch.tensor(2.0, dtype=torch.float64),
    lambda x, w, n: x < w,
    lambda x, w, n: torch.where(n > 0, x, 0.0),
    lambda x, w, n: torch.nn.functional.gelu(w),
    lambda x, w, n: torch.sqrt(n),
    lambda x, w, n: torch.arange(5, device=META),
    lambda x, w, n: torch.func.grad(lambda y: (torch.sigmoid(y) * x).sum())(x),
]


@pytest.mark.parametrize("form", EACH)
def test_an_outline_has_the_shape_and_type_of_the_result(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    x, w = torch.empty(2, 3, 1, 4, device=META), torch.empty(1, 1, 5, 4, device=META)
    n = torch.empty(2, 1, 1, 1, dtype=torch.int64, device=META)
    expected = form(x, w, n)
    with Outlines():  # type: ignore[no-untyped-call]
        found = form(x, w, n)
    assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)


def test_numbers_stay_numbers() -> None:
    with Outlines():  # type: ignore[no-untyped-call]
        assert (torch.ones(2) + torch.arange(2)).tolist() == [1, 2]


def test_a_compilation_does_not_import_the_compiler_of_torch() -> None:
    text = "import sys, nldsl; nldsl.compile('std.hope:Hope', depth=2); print('torch._dynamo' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
