"""Closed forms where they are hard: keys that are nearly the same, gates at their ends, little precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nldsl.compiler import halves
from nldsl.compiler.lowerings.products import Products, products
from nldsl.compiler.module import CompiledModule
from torch import Tensor

import nldsl

D, TICKS, BATCH = 8, 150, 2

# rule -> its text: q, k, v, a (in 0 ... 1), b (a rate), c (as a, a number for every row), e (a key) -> what it reads
RULES = {
    "decay": "learn M : k -> v minimizing dot retaining decay(a) by gd(b) every token",
    "delta": "learn M : k -> v minimizing l2 by gd(b) every token",
    "gated delta": "M <- a * M\n  learn M : k -> v minimizing l2 by gd(b) every token",
    "delta, undecayed": "learn M : k -> v minimizing l2 retaining decay(a) by gd(b) every token",
    "erase": "learn M : k -> v minimizing dot retaining erase(a, b) by gd(b) every token",
    "momentum": "learn M : k -> v minimizing dot retaining decay(0.9) by momentum(b, a) every token",
    "momentum and delta": "learn M : k -> v minimizing l2 retaining decay(0.9) by momentum(0.1 * b, a / 2) every token",
    "held": "learn M : k -> v minimizing l2 retaining erase(a, b) by gd(0.01) every token hold state for 32 tokens",
    "window": "learn M : k -> v minimizing l2 over last 3 tokens retaining decay(a) by gd(0.01) every token "
    "hold gradient for 16 tokens",
    "rows decay": "M <- reshape(c, [d, 1]) * M + outer(b * k, v)",
    "rows decay and delta": "M <- reshape(c, [d, 1]) * M\n  learn M : k -> v minimizing l2 by gd(b) every token",
    "rows decay, momentum and delta": "learn M : k -> v minimizing l2 retaining decay(reshape(c, [d, 1])) "
    "by momentum(0.1 * b, a / 2) every token",
    "rows rate": "learn M : k -> v minimizing l2 retaining decay(a) by gd(0.5 * reshape(c, [d, 1])) every token",
    "rows decay, held": "learn M : k -> v minimizing l2 retaining decay(reshape(c, [d, 1])) by gd(0.01) every token "
    "hold state for 32 tokens",
    "diagonal and rank one": "M <- reshape(c, [d, 1]) * M - 0.5 * outer(b * e, M(e)) + outer(k, v)",
    "delta by hand": "M <- M + outer(b * k, v - M(k))",
    "erase and delta": "learn M : k -> v minimizing l2 retaining erase(a, b / 2) by gd(b / 4) every token",
    "rank three": "M <- M - 0.3 * outer(b * e, M(e))\n  M <- a * M - 0.3 * outer(b * q, M(q))\n"
    "  learn M : k -> v minimizing l2 by gd(0.3 * b) every token",
    "written as a whole": "M <- a * M + 0.1 * tanh(outer(k, v))\n  learn M : k -> v minimizing l2 by gd(b) every token",
    "columns rate": "learn M : k -> v minimizing dot retaining decay(a) by gd(c) every token",
}
TEXT = """
block B(d = 8) over q: [d], k: [d], v: [d], a: [1], b: [1], c: [d], e: [d] -> [d] {{
  memory M = matrix(d)
  {rule}
  return M(q)
}}
"""


def gate(kind: str, size: int, generator: torch.Generator) -> Tensor:
    shape = (BATCH, TICKS, size)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    ends = torch.randint(3, shape, generator=generator)
    match kind:
        case "usual":
            return 0.9 + 0.1 * drawn
        case "forgets":  # e^-20 now and then
            return torch.where(ends == 0, torch.full(shape, 2e-9), 1 - 0.1 * drawn).double()
        case "ends":
            return (ends > 0).double()
    raise ValueError(kind)


def rate(kind: str, generator: torch.Generator) -> Tensor:
    if kind == "ends":
        return torch.randint(3, (BATCH, TICKS, 1), generator=generator).double()
    return torch.rand(BATCH, TICKS, 1, generator=generator, dtype=torch.float64)


def streams(kind: str, alike: float) -> list[Tensor]:
    """alike: how much all keys have in common."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, BATCH, TICKS, D, generator=generator, dtype=torch.float64)
    k = alike**0.5 * torch.ones(D) / D**0.5 + (1 - alike) ** 0.5 * torch.nn.functional.normalize(k, dim=-1)
    a, b, c = gate(kind, 1, generator), rate(kind, generator), gate(kind, D, generator)
    k, e = (torch.nn.functional.normalize(x, dim=-1) for x in (k, k + torch.randn(k.shape, generator=generator)))
    return [q, k, v, a, b, c, e]


def found(rule: str, only: str, given: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Outputs, the weight at the end, gradients."""
    module = CompiledModule(nldsl.load_text(TEXT.format(rule=RULES[rule])), dtype=torch.float64, only=only).to(dtype)
    given = [x.to(dtype).requires_grad_() for x in given]
    y, state = module(*given)
    weight = module.weights(state)["M.w"]
    slopes = torch.autograd.grad(
        y.double().square().mean(), [*given, *module.parameters()], allow_unused=True, materialize_grads=True
    )
    return [x.detach().double() for x in (y, weight, *slopes)]


def errors(left: list[Tensor], right: list[Tensor]) -> list[float]:
    pairs = [(a.detach(), b.detach()) for a, b in zip(left, right, strict=True)]
    return [float((a - b).norm() / max(1e-30, float(b.norm()))) for a, b in pairs]


CASES = [(rule, kind, alike) for rule in RULES for kind in ("usual", "forgets", "ends") for alike in (0.0, 0.99)]


@pytest.mark.parametrize(("rule", "kind", "alike"), CASES)
def test_it_comes_to_the_same_as_token_by_token(rule: str, kind: str, alike: float) -> None:
    given = streams(kind, alike)
    assert max(errors(found(rule, "", given, torch.float64), found(rule, "recurrence", given, torch.float64))) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("rule", "alike"), [(rule, alike) for rule in RULES for alike in (0.0, 0.9)])
def test_it_loses_no_more_than_token_by_token(rule: str, alike: float, dtype: torch.dtype) -> None:
    """At most twice the error of the recurrence in the same precision, for what is read, kept and learned."""
    given = [x.to(dtype).double() for x in streams("usual", alike)]
    exact = found(rule, "recurrence", given, torch.float64)
    closed, slow = (errors(found(rule, only, given, dtype), exact) for only in ("", "recurrence"))
    assert all(a <= 2 * b + torch.finfo(dtype).eps for a, b in zip(closed, slow, strict=True)), (closed, slow)


@pytest.mark.parametrize(("rule", "alike"), [(rule, alike) for rule in RULES for alike in (0.0, 0.9)])
def test_under_autocast_it_loses_no_more_than_token_by_token(
    rule: str, alike: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products in half precision, small ones too; states, gates and what is solved in float32."""
    monkeypatch.setattr(halves, "ENOUGH", {})
    given = [x.float().double() for x in streams("usual", alike)]
    exact = found(rule, "recurrence", given, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        closed, slow = (errors(found(rule, only, given, torch.float32), exact) for only in ("", "recurrence"))
    eps = torch.finfo(torch.bfloat16).eps
    assert all(a <= 2 * b + eps for a, b in zip(closed, slow, strict=True)), (closed, slow)


@pytest.mark.parametrize("there", ["a", "ab", "abc"])
@pytest.mark.parametrize("left_out", ["", "ba", "ba bb", "ab ba", "aa ab ac", "bb ca"])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_products(there: str, left_out: str, count: int) -> None:
    """Against the product of whole matrices, whatever entries are always 0."""
    random, n = torch.Generator().manual_seed(count), len(there)
    steps = torch.randn(2, count, n, n, dtype=torch.float64, generator=random)
    entries: dict[tuple[str, str], Tensor] = {}
    for i, row in enumerate(there):
        for j, column in enumerate(there):
            if row + column in left_out.split():
                steps[..., i, j] = 0
            else:
                entries[row, column] = steps[:, None, :, i, j]
    found = products(there, entries, count, torch.float64)
    for t in range(count + 1):
        for s in range(count + 1):
            expected = torch.eye(n, dtype=torch.float64).expand(2, n, n) * float(s <= t)
            for i in range(s, t):
                expected = steps[:, i] @ expected
            for i, row in enumerate(there):
                for j, column in enumerate(there):
                    entry = _entry(found.get((row, column)), t, s, count).expand(2)
                    torch.testing.assert_close(entry, expected[:, i, j])


def _entry(products: Products | None, t: int, s: int, count: int) -> Tensor:
    """P[t, s] of an entry."""
    if products is None:
        return torch.zeros(2, dtype=torch.float64)
    if s == 0:
        return (products.left[..., 0] if t == count else products.start[..., t])[:, 0]
    return (products.written[..., s - 1] if t == count else products.seen[..., t, s - 1])[:, 0]


def _stands(change: Callable[[Tensor], Tensor]) -> bool:
    given = streams("usual", 0.5)
    changed = [change(x) if i == 3 else x for i, x in enumerate(given)]
    one, other = (found("gated delta", only, x, torch.float64) for only, x in (("", changed), ("recurrence", given)))
    return max(errors(one, other)) <= 1e-10


def test_a_gate_that_is_a_little_off_is_noticed() -> None:
    assert _stands(lambda a: a)
    assert not _stands(lambda a: a + 1e-6)
