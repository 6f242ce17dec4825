"""Nothing is known by name: with every definition of the library renamed, plans and numbers stay as they were."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from nldsl.compiler.module import CompiledModule

import nldsl
from nldsl import as_model, listing, modules, program

SIZES = {"dim": 8, "depth": 1, "heads": 2, "vocab": 11}
MODELS = {
    "hope:Hope": {"periods": [4, 8], "chunk": 4},
    "hope:HopeAttention": {"periods": [4, 8]},
    "titans:Titans": {"chunk": 4},
    "ttt:TTT": {"chunk": 4},
    "delta:GatedDeltaTransformer": {},
    "transformer:Transformer": {},
}
DEFINED = re.compile(r"^(?:block|model|net|optimizer|objective|retention) (\w+)", re.MULTILINE)


def retold(line: str, known: dict[str, str]) -> str:
    """A line with the new names. Modules keep theirs: `std.hope` is a file, not a definition."""
    module = re.match(r"from std\.\w+", line)
    kept = module[0] if module else ""
    return kept + re.sub(r"\w+", lambda word: known.get(word[0], word[0]), line[len(kept) :])


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of the library in which every definition has a name that says nothing."""
    folder, generator = tmp_path_factory.mktemp("library"), random.Random(0)
    texts = {p.name: p.read_text(encoding="utf-8") for p in modules.library().glob("*.nl")}
    names = sorted({name for text in texts.values() for name in DEFINED.findall(text)})
    new = [f"u{i}" for i in range(len(names))]
    generator.shuffle(new)
    known = dict(zip(names, new, strict=True))
    for name, text in texts.items():
        (folder / name).write_text("\n".join(retold(line, known) for line in text.splitlines()), encoding="utf-8")
    return folder, known


def built(name: str, sizes: dict[str, object]) -> CompiledModule:
    return nldsl.compile(f"std.{name}", dtype=torch.float64, **sizes)


@pytest.mark.parametrize("name", MODELS)
def test_a_renamed_library_is_the_same(
    name: str, renamed: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, known = renamed
    sizes = SIZES | MODELS[name]
    usual = built(name, sizes)
    for module in (modules, program, as_model, listing):
        if hasattr(module, "library"):
            monkeypatch.setattr(module, "library", lambda: folder)
    stem, _, model = name.partition(":")
    other = built(f"{stem}:{known[model]}", {known.get(n, n): v for n, v in sizes.items()})
    assert other.graph.program == known[model]
    mine, yours = dict(usual.named_parameters()), dict(other.named_parameters())
    assert len(mine) == len(yours) and mine.keys() != yours.keys()
    generator = torch.Generator().manual_seed(0)
    for p, q in zip(mine.values(), yours.values(), strict=True):
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        q.data.copy_(p.data)
    assert [(c.lowering, c.chunk, len(c.refused)) for c in usual.plan.choices] == [
        (c.lowering, c.chunk, len(c.refused)) for c in other.plan.choices
    ]
    ids = torch.randint(11, (2, 10), generator=generator)
    losses = [module.loss(ids) for module in (usual, other)]
    assert torch.equal(*losses)
    found, expected = (
        torch.autograd.grad(x, list(m.parameters())) for x, m in zip(losses, (usual, other), strict=True)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
