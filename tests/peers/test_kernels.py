"""The kernels of flash-linear-attention that the compiler calls, as they are installed: they are there and take what
they are given, and our stand-ins for them are their plain references."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
from compiler.kernels import KERNELS, Result
from nldsl.compiler.lowerings import kernels
from nldsl.compiler.lowerings.told import Told
from torch import Tensor
from torch.nn.functional import normalize

from .loading import peer

TOLERANCE = 1e-5  # the references compute in float32


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=lambda k: k.name)
def test_a_kernel_is_there_and_takes_what_it_is_given(kernel: kernels.Kernel) -> None:
    """Read, not imported: importing it needs a GPU's compiler."""
    folder = _installed() / kernel.module.replace(".", "/")
    found = [f for path in sorted(folder.rglob("chunk.py")) for f in _functions(path) if f.name == kernel.name]
    assert len(found) == 1
    taken = [a.arg for a in found[0].args.args]
    given = [*kernel.given(_rule()), "q", "scale", "initial_state", "output_final_state"]
    assert set(given) <= set(taken)
    exported = ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert kernel.name in {alias.name for node in exported if isinstance(node, ast.ImportFrom) for alias in node.names}


def _installed() -> Path:
    try:
        return Path(str(metadata.distribution("fla-core").locate_file("")))
    except metadata.PackageNotFoundError:
        pytest.skip("fla-core is not installed: pip install 'nldsl[peers]'")


def _functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _rule() -> Told:
    rows = torch.ones(1, 2, 1, 3)
    return Told(torch.ones(1, 2, 1), rows, rows, (rows, rows), torch.ones(1, 2, 1), rows)


# The references


def simple_gla(given: dict[str, Tensor], state: Tensor) -> Result:
    naive = peer("fla-core", "fla.ops.simple_gla.naive")
    return naive.naive_recurrent_simple_gla(**given, scale=1.0, initial_state=state)  # type: ignore[no-any-return]


def gla(given: dict[str, Tensor], state: Tensor) -> Result:
    naive = peer("fla-core", "fla.ops.gla.naive")
    return naive.naive_recurrent_gla(*_scaled(given, "q", "k", "v", "g"), state, True)  # type: ignore[no-any-return]


def delta(given: dict[str, Tensor], state: Tensor) -> Result:
    naive = peer("fla-core", "fla.ops.delta_rule.naive")
    heads_first = (x.transpose(1, 2) for x in _scaled(given, "q", "k", "v", "beta"))
    y, after = naive.delta_rule_recurrence(*heads_first, state)
    return y.transpose(1, 2), after


def gated_delta(given: dict[str, Tensor], state: Tensor) -> Result:
    naive = peer("fla-core", "fla.ops.gated_delta_rule.naive")
    return naive.naive_recurrent_gated_delta_rule(  # type: ignore[no-any-return]
        **given, scale=1.0, initial_state=state, output_final_state=True
    )


def dplr(given: dict[str, Tensor], state: Tensor) -> Result:
    naive = peer("fla-core", "fla.ops.generalized_delta_rule.dplr.naive")
    heads_first = (x.transpose(1, 2) for x in _scaled(given, "q", "k", "v", "a", "b", "gk"))
    y, after = naive.dplr_recurrence(*heads_first, state)
    return y.transpose(1, 2), after


def _scaled(given: dict[str, Tensor], *names: str) -> list[Tensor]:
    """For those that scale q by n^-0.5, whatever they are told."""
    return [given[n] * given[n].shape[-1] ** 0.5 if n == "q" else given[n] for n in names]


REFERENCES: dict[str, tuple[Callable[[dict[str, Tensor], Tensor], Result], str]] = {
    "chunk_simple_gla": (simple_gla, "q k v g"),
    "chunk_gla": (gla, "q k v g_rows"),
    "chunk_delta_rule": (delta, "q k v beta"),
    "chunk_gated_delta_rule": (gated_delta, "q k v g beta"),
    "chunk_dplr_delta_rule": (dplr, "q k v a b gk_rows"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_stand_in_is_the_reference(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    reference, streams = REFERENCES[name]
    B, T, H, n, m = 2, 9, 3, 4, 5
    given: dict[str, Tensor] = {}
    for stream in streams.split():
        size = {"v": (m,), "g": (), "beta": ()}.get(stream, (n,))
        drawn = torch.randn(B, T, H, *size, generator=random)
        if stream in ("k", "a", "b"):
            drawn = normalize(drawn, dim=-1)
        elif stream.startswith("g"):
            drawn = -drawn.abs()
        elif stream == "beta":
            drawn = drawn.sigmoid()
        given[stream.removesuffix("_rows")] = drawn
    state = torch.randn(B, H, n, m, generator=random)
    y, after = KERNELS[name](**given, scale=1.0, initial_state=state, output_final_state=True)
    expected, left = reference(given, state)
    assert float((y - expected).norm() / expected.norm()) <= TOLERANCE
    assert float((after - left).norm() / left.norm()) <= TOLERANCE
