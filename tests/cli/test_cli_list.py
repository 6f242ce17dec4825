"""`nldsl list`: the library as a table, read off its files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nldsl.listing import listed
from nldsl.modules import library
from nldsl.primitives import PRIMITIVES


def test_every_block_and_model_is_a_row() -> None:
    texts = {p.stem: p.read_text(encoding="utf-8") for p in library().glob("*.nl")}
    named = {f"std.{s}:{n}" for s, t in texts.items() for n in re.findall(r"^(?:block|model) (\w+)", t, re.MULTILINE)}
    assert {e.program for e in listed()} == named
    assert all(e.levels for e in listed())


def test_a_row_says_what_the_text_says() -> None:
    row = next(e for e in listed() if e.program == "std.hope:SelfModifyingTitans")
    assert row.memory == ("K, V, M = residual_mlp(d)", "Eta, Alpha = residual_mlp(d) |> linear(1)")
    assert (row.objective, row.retention, row.optimizer) == (("l2",), ("erase(alpha, eta)",), ("gd(eta)",))
    assert row.frequency == ("every token, hold state for chunk tokens",)


def test_the_table_is_one_line_or_more_per_row(nldsl: Any) -> None:
    shown = nldsl("list", "hope")
    assert shown.code == 0
    assert shown.out.splitlines()[0].split()[:2] == ["program", "memory"]
    assert "std.hope:Hope" in shown.out and "std.delta" not in shown.out


def test_as_json(nldsl: Any) -> None:
    rows = json.loads(nldsl("list", "--json").out)
    assert {r["program"] for r in rows} == {e.program for e in listed()}


def test_the_primitives_are_tensor_operations_and_two_that_keep_state(nldsl: Any) -> None:
    shown = nldsl("list", "--primitives").out.splitlines()
    assert {line.split()[0] for line in shown[2:]} == {*PRIMITIVES, "attention"}
    rows = json.loads(nldsl("list", "--primitives", "--json").out)
    assert {row["name"] for row in rows if row["keeps"] == "state"} == {"attention", "causal_conv"}
    assert {row["name"] for row in rows if row["keeps"]} - {"attention", "causal_conv"} == {
        "window_sum",
        "window_mean",
        "window_last",
    }


def test_a_word_that_nothing_has(nldsl: Any) -> None:
    shown = nldsl("list", "nothing_like_it")
    assert shown.code == 2 and "nothing in the library" in shown.err


@pytest.mark.parametrize("path", sorted(library().glob("*.nl")), ids=lambda p: p.stem)
def test_no_library_file_is_long(path: Path) -> None:
    """A definition of a memory is 40 lines at most, Hope 60."""
    text = path.read_text(encoding="utf-8")
    for name, body in re.findall(r"^(?:block|model) (\w+)(.*?^})", text, re.MULTILINE | re.DOTALL):
        assert body.count("\n") <= (60 if name == "Hope" else 40), name
