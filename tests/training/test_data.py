"""Texts, and the pieces of them that a run reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nldsl.compiler.training.data import LIBRARY, Pieces, Text, held_out, text_of
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.evaluate import rows_of


def text(count: int) -> Text:
    return Text("`some`", (torch.arange(count) % 256).to(torch.uint8))


def test_files_are_read_one_behind_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x00ab")
    (tmp_path / "b").write_bytes(b"\xff\n")
    found = text_of([str(tmp_path / "a"), str(tmp_path / "b")])
    assert bytes(found.tokens.tolist()) == b"\x00ab\xff\n"
    assert found.name == f"`{tmp_path / 'a'}` and 1 more"


def test_without_files_it_is_the_source_of_the_library() -> None:
    found = text_of([], limit=100_000)
    assert (found.name, len(found)) == (LIBRARY, 100_000)
    assert b"import" in bytes(found.tokens.tolist())
    assert found.digest == text_of([], limit=100_000).digest != text_of([], limit=99_999).digest


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "holds nothing"), (b"x", "holds one byte"), (None, "no such file or directory")]
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=said):
        text_of([str(path)])


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is a folder; name the text files in it, such as .*/\*\.txt"):
        text_of([str(tmp_path)])


def test_the_last_part_is_held_out() -> None:
    train, rest = held_out(text(105), 0.1)
    assert (len(train), len(rest)) == (95, 10)
    assert rest.tokens[0] == 95
    assert "the last 10 % of `some`" in rest.name
    assert [len(part) for part in held_out(text(105), 0)] == [105, 0]
    with pytest.raises(TrainingError, match=r"too few to hold out 0.1 of them.*--held-out 0"):
        held_out(text(15), 0.1)


def test_pieces_come_from_anywhere_and_follow_from_the_number_of_the_step() -> None:
    pieces = Pieces(text(200), batch=3, length=10, carry=False, seed=0)
    piece = pieces.at(7)
    assert (piece.ids.shape, piece.ids.dtype, piece.fresh) == ((3, 10), torch.int64, True)
    assert [row.tolist() for row in piece.ids] == [list(range(s, s + 10)) for s in piece.starts]
    assert pieces.at(7).starts == piece.starts != pieces.at(8).starts
    assert Pieces(text(200), 3, 10, False, seed=1).at(7).starts != piece.starts
    starts = {s for step in range(1000) for s in pieces.at(step).starts}
    assert starts == set(range(191))


def test_rows_that_carry_read_on_and_begin_anew_together() -> None:
    pieces = Pieces(text(47), batch=2, length=5, carry=True, seed=0)
    found = [pieces.at(step) for step in range(9)]
    assert [p.starts for p in found[:4]] == [(0, 20), (5, 25), (10, 30), (15, 35)]
    assert [p.fresh for p in found] == [True, False, False, False, True, False, False, False, True]


def test_a_text_that_is_exactly_long_enough_and_one_that_is_not() -> None:
    assert Pieces(text(10), 3, 10, False, 0).at(5).starts == (0, 0, 0)
    assert Pieces(text(30), 3, 10, True, 0).at(5).fresh
    with pytest.raises(TrainingError, match="leaves 9 bytes to train on and one piece of --length 10 takes 10"):
        Pieces(text(9), 3, 10, False, 0)
    with pytest.raises(TrainingError, match="leaves 29 bytes to train on and 3 rows of --length 10 take 30"):
        Pieces(text(29), 3, 10, True, 0)


def test_rows_to_evaluate_are_spread_over_the_text() -> None:
    rows = rows_of(text(100), 10, 3)
    assert rows[:, 0].tolist() == [0, 45, 90]
    assert rows_of(text(100), 10, 50)[:, 0].tolist() == list(range(0, 100, 10))
    assert rows_of(text(7), 10, 3).tolist() == [list(range(7))]
    assert rows_of(text(19), 10, 3)[:, 0].tolist() == [0]
