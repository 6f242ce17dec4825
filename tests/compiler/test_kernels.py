"""Loops by the kernels of others: the change of variables, by stand-ins that run token by token in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from nldsl.compiler.lowerings import fused
from nldsl.compiler.lowerings.kernels import Kernel
from nldsl.compiler.plan import planned

import nldsl

from .kernels import KERNELS
from .test_closed import RULES, TEXT, errors, found, streams

# rule -> its kernel; all others are sums of more than one state, held, in windows, or written by several rows at a tick
FITTING = {
    "decay": "chunk_simple_gla",
    "columns rate": "chunk_simple_gla",
    "rows decay": "chunk_gla",
    "delta": "chunk_delta_rule",
    "gated delta": "chunk_gated_delta_rule",
    "delta, undecayed": "chunk_gated_delta_rule",
    "erase": "chunk_dplr_delta_rule",
    "erase and delta": "chunk_dplr_delta_rule",
    "delta by hand": "chunk_dplr_delta_rule",
    "rows decay and delta": "chunk_dplr_delta_rule",
    "diagonal and rank one": "chunk_dplr_delta_rule",
}
DECAYS = [rule for rule in FITTING if rule not in ("delta", "delta by hand")]


def whole(kernel: Any, **given: Any) -> Any:
    """A kernel reads memory as it lies: nothing is broadcast, all is contiguous."""
    batch, ticks, heads, n = given["q"].shape
    m = given["v"].shape[-1]
    sizes = {"v": (m,), "beta": (), "g": (n,) if given.get("g", given["q"]).dim() == 4 else ()}
    for name in given.keys() - {"scale", "initial_state", "output_final_state"}:
        assert given[name].shape == (batch, ticks, heads, *sizes.get(name, (n,))) and given[name].is_contiguous()
    assert given["initial_state"].shape == (batch, heads, n, m) and given["initial_state"].is_contiguous()
    return kernel(**given)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each kernel ran, as if they could run here."""
    calls: Counter[str] = Counter()

    def load(kernel: Kernel) -> Any:
        calls[kernel.name] += 1
        return partial(whole, KERNELS[kernel.name])

    monkeypatch.setattr(fused, "precision", lambda piece: piece.machine.dtype if not piece.plain else None)
    monkeypatch.setattr(Kernel, "load", load)
    yield calls


@pytest.mark.parametrize("rule", RULES)
def test_which_kernel_knows_a_rule(rule: str) -> None:
    loops = [s for s in planned(nldsl.load_text(TEXT.format(rule=RULES[rule]))).stages if hasattr(s, "kernels")]
    assert [loop.kernels for loop in loops] == [(FITTING[rule],) if rule in FITTING else ()]


@pytest.mark.parametrize("rule", FITTING)
def test_a_kernel_comes_to_the_same(rule: str, called: Counter[str]) -> None:
    given = streams("usual", 0.5)
    assert max(errors(found(rule, "", given, torch.float64), found(rule, "recurrence", given, torch.float64))) <= 1e-10
    assert set(called) == {FITTING[rule]}


@pytest.mark.parametrize("rule", FITTING)
@pytest.mark.parametrize("kind", ["forgets", "ends"])
def test_decays_that_a_kernel_cannot_bear(rule: str, kind: str, called: Counter[str]) -> None:
    """Some are 2e-9 or 0: kernels that take quotients of decays can't have the first, and none has the second."""
    given = streams(kind, 0.5)
    assert max(errors(found(rule, "", given, torch.float64), found(rule, "recurrence", given, torch.float64))) <= 1e-10
    borne = rule not in DECAYS or (kind == "forgets" and rule in ("decay", "columns rate", "gated delta"))
    assert bool(called) == borne


def test_a_negative_decay(called: Counter[str]) -> None:
    given = streams("usual", 0.5)
    given[3] = -given[3]
    exact = found("gated delta", "recurrence", given, torch.float64)
    assert max(errors(found("gated delta", "", given, torch.float64), exact)) <= 1e-10
    assert not called


READS = """
block B(d = 8) over q: [d], k: [d], v: [d], a: [1], b: [1] -> [d], [d], [d] {
  memory M = matrix(d)
  before = M(q)
  M <- a * M
  between = M(q + k)
  learn M : k -> v minimizing l2 by gd(b) every token
  return before, between, M(q)
}
"""


def test_reads_before_between_and_after(called: Counter[str]) -> None:
    """What the memory says before a write is what it said after the one before; a second call goes on."""
    given, results = streams("usual", 0.5)[:5], []
    for only in ("", "recurrence"):
        module = nldsl.compiler.module.CompiledModule(nldsl.load_text(READS), dtype=torch.float64, only=only)
        *first, state = module(*(x[:, :70] for x in given))
        *last, state = module(*(x[:, 70:] for x in given), state)
        results.append([*first, *last, module.weights(state)["M.w"]])
    assert max(errors(*results)) <= 1e-10
    assert called["chunk_gated_delta_rule"] == 6


def test_a_gradient_of_a_gradient_is_refused(called: Counter[str]) -> None:
    module = nldsl.compiler.module.CompiledModule(nldsl.load_text(READS), dtype=torch.float64)
    given = [x.requires_grad_() for x in streams("usual", 0.5)[:5]]
    y = module(*given)[2]
    with pytest.raises(RuntimeError, match="no gradient of a gradient"):
        torch.autograd.grad(y.sum(), given, create_graph=True)
    assert called


def test_without_a_gpu_the_closed_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "load", lambda kernel: pytest.fail("a kernel ran"))
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    module = nldsl.compiler.module.CompiledModule(nldsl.load_text(READS), dtype=torch.bfloat16)
    module(*(x.bfloat16() for x in streams("usual", 0.5)[:5]))
