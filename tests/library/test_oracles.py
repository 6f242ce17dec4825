"""Every rule of the library has its equations beside it, and they have nothing to do with the program."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from stdlib.comparing import TOLERANCE

from nldsl.listing import Entry, checked, listed
from stdlib import rows_deep, rows_linear, test_layers_deep, test_rows_linear

ORACLES = Path(__file__).parents[1] / "stdlib" / "oracles"
COMPARED = {
    *(row.program for module in (rows_linear, rows_deep) for row in module.ROWS.values()),
    *test_rows_linear.BLOCKS,
    *test_layers_deep.LAYERS,
    *(f"std.{program}" for program, _, _ in test_layers_deep.MODELS.values()),
}
# Compared in tests of their own: MAML with its outer loss, the others inside the blocks and models that apply them.
ELSEWHERE = {"std.maml:MAML", "std.titans:PersistentAttention"}


def learning() -> list[Entry]:
    """The entries with a memory of their own."""
    return [e for e in listed() if e.memory]


@pytest.mark.parametrize("entry", learning(), ids=lambda e: e.program)
def test_every_program_with_a_memory_has_an_oracle(entry: Entry) -> None:
    assert entry.program in COMPARED | ELSEWHERE
    if entry.program in COMPARED:
        assert entry.oracle and entry.error is not None, "`make library` compares it"
        assert entry.error <= TOLERANCE


def test_what_is_kept_is_of_programs_that_there_are() -> None:
    assert set(checked()) == COMPARED


@pytest.mark.parametrize("path", sorted(ORACLES.glob("*.py")), ids=lambda p: p.stem)
def test_no_oracle_imports_what_it_is_to_judge(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not any(name.split(".")[0] in ("nldsl", "compiler", "stdlib") for name in names), names


def test_no_comparison_is_skipped() -> None:
    for path in sorted(ORACLES.parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("pytest.skip", "mark.skip", "importorskip", "xfail")), path.name
