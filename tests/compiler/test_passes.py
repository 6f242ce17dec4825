"""What inductor is told to do to its graphs: it computes the same, with products by oneDNN."""

from __future__ import annotations

import shutil

import pytest
import torch
from nldsl.compiler import matrices
from nldsl.compiler.bodies.passes import Passes
from nldsl.compiler.bodies.standalone import Standalone
from nldsl.compiler.bodies.tracing import recorded
from torch import Tensor, fx


class Noted(Passes):
    """Passes that note what is multiplied how."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def __call__(self, graph: fx.Graph) -> None:
        super().__call__(graph)
        self.targets += [str(n.target) for n in graph.nodes if "product" in str(n.target) or "mm" in str(n.target)]

    def uuid(self) -> None:
        return None  # not kept from one run to the next


def body(total: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """Sums and products in every order, one matrix and several."""
    first = torch.baddbmm(2 * total, a, b.transpose(1, 2))
    second = torch.baddbmm(first.tanh() + total, b, a) + total
    return [first, second, (a[0].t() @ second[0]).t() * 3, a @ second]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_inductor_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "AT_HAND", True)
    monkeypatch.setattr(matrices, "ENOUGH", 1)
    inputs = [torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    noted = Noted()
    run = Standalone(recorded(body, inputs), {"post_grad_custom_post_pass": noted})
    for found, wanted in zip(run(*inputs), body(*[x.double() for x in inputs]), strict=True):
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert sorted(noted.targets) == ["aten.baddbmm.default"] * 2 + ["nldsl.product.default"] * 2
