"""Attention that several learns teach: which pairs a query sees, and in which order they are forgotten."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler.reference import Interpreter

import nldsl
from compiler.agreement import TOLERANCE
from compiler.programs import furthest

PLAIN = "learn A : x -> x every token\nlearn A : 2 * x -> 3 * x every token\nreturn A(x)"
BETWEEN = "learn A : x -> x every token\ny = A(x)\nlearn A : y -> 3 * x every token\nreturn y + A(x)"
ABOVE = "y = A(x)\nlearn A : x -> x every token\nlearn A : 2 * x -> x every 3 tokens\nreturn y + A(x)"
PACES = "learn A : x -> x every 4 tokens\nlearn A : 2 * x -> 3 * x every token\nreturn A(x)"
WHEN = "learn A : x -> x every 2 tokens when sum(x) > 0\nlearn A : 2 * x -> 3 * x every token\nreturn A(x)"
FORMS = {
    "all": "attention()",
    "window": "attention(window = 3)",
    "persistent": "attention(window = 4, persistent = 2) reset every 5 tokens",
    "restarts": "attention(window = 3) reset when sum(x) > 1",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "body", [PLAIN, BETWEEN, ABOVE, PACES, WHEN], ids=["plain", "between", "above", "paces", "when"]
)
def test_several_learns_of_one_attention(form: str, body: str) -> None:
    text = f"block B(d = 3) over x: [d] -> [d] {{\nmemory A = {FORMS[form]}\n{body}\n}}"
    meaning = Interpreter(nldsl.load_text(text))
    module = nldsl.compile_text(text, dtype=torch.float64)
    named = dict(module.named_parameters())
    for name, value in meaning.parameters.items():
        named[name].data.copy_(value.data)
    x = torch.randn(2, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    [expected], _ = meaning.run({"x": x})
    at_once, _ = module(x)
    assert furthest([at_once], [expected]) <= TOLERANCE
    slopes = (torch.autograd.grad((y**2).sum(), x)[0] for y in (at_once, expected))
    assert furthest(*([s] for s in slopes)) <= TOLERANCE
    for cuts in ([1] * 11, [4, 5, 2]):
        parts, state = [], None
        for piece in x.split(cuts, dim=1):
            y, state = module(piece, state)
            parts.append(y)
        assert furthest([torch.cat(parts, dim=1)], [expected]) <= TOLERANCE, cuts
