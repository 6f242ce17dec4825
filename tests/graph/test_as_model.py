"""`as_model=True`: a block as a language model of one layer."""

from __future__ import annotations

from pathlib import Path

import pytest

import nldsl
from nldsl.parameters import learned_parameters

BLOCK = """
block Gain(dim, factors = [1, 2],
           lr = 0.5) over x: [dim] -> [dim] {
  for n in factors { x = x * n }
  return lr * x
}
"""


def test_a_block_gets_an_embedding_a_head_and_a_learn() -> None:
    graph = nldsl.load("std.delta:DeltaNet", as_model=True, dim=8, heads=2, vocab=11)
    assert graph.kind == "model" and graph.loss
    alone = {f"delta_net.{name}" for name in learned_parameters(nldsl.load("std.delta:DeltaNet", dim=8, heads=2))}
    around = {"x.embed.table", "rmsnorm.gain", "logits.rmsnorm.gain", "logits.linear.w"}
    assert set(learned_parameters(graph)) == alone | around


def test_its_hyper_parameters_stay_its_own() -> None:
    graph = nldsl.load_text(BLOCK, "Gain", as_model=True, dim=4, factors=[3], lr=0.25, outer_lr=0.1)
    hyper = dict(graph.hyper)
    assert list(hyper["factors"]) == [3] and hyper["lr"] == 0.25 and float(hyper["outer_lr"]) == 0.1


def test_what_learns_from_the_loss_is_told_of_it() -> None:
    with pytest.raises(nldsl.ProgramError) as caught:
        nldsl.load("std.hope:CMS", dim=8)
    assert any("as_model=True" in d.hint for d in caught.value.diagnostics)
    assert nldsl.load("std.hope:CMS", as_model=True, dim=8).loss


def test_a_model_is_what_it_is() -> None:
    assert nldsl.load("std.hope:Hope", as_model=True, dim=8, depth=1, heads=2).program == "Hope"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("block B(d = 3) over x: [d], y: [d] -> [d] = x + y", "no block over one stream"),
        ("block B(d = 3) over x: [d] -> [2 * d] = concat(x, x)", "no block over one stream"),
        ("block B(d = 3) over x: int -> int = x", "no block over one stream"),
        ("net n over x: [d] -> [d] = x", "has no block"),
        ("block B(d = 3) over x: [d] -> [d] = ", "expected"),
    ],
)
def test_what_is_no_such_block_is_said(text: str, said: str) -> None:
    with pytest.raises(nldsl.ProgramError) as caught:
        nldsl.load_text(text, as_model=True)
    assert said in str(caught.value)


def test_a_file_beside_others_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "parts.nl").write_text("net twice over x: [d] -> [d] = 2 * x\n", encoding="utf-8")
    program = "from parts import twice\nblock B(dim = 4) over x: [dim] -> [dim] = twice(linear(dim)(x))\n"
    (tmp_path / "mine.nl").write_text(program, encoding="utf-8")
    assert nldsl.load(str(tmp_path / "mine.nl"), as_model=True).program == "BModel"
