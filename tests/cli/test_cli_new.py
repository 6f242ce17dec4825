"""`nldsl new`: programs to start from, each right as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nldsl.commands.new import KINDS, model_name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mine", "memory", "continuum", "attention", "optimizer", "2nd-try of it", "модель"])
def test_a_new_program_is_right_without_a_finding(nldsl: Any, tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"{name}.nl"
    ran = nldsl("new", path, "--kind", kind)
    assert (ran.code, ran.err) == (0, "")
    ran = nldsl("check", path, "--strict", "--length", 1024)
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)
    assert "is fine" in ran.out


def test_its_comments_name_the_file_and_its_model_too(nldsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "my-first_try.nl"
    assert "nldsl train" in nldsl("new", path).out
    text = path.read_text()
    assert "#   nldsl check my-first_try.nl         is it right?\n" in text
    assert "model MyFirstTry(" in text
    assert "FILE" not in text
    assert max(map(len, text.splitlines())) <= 120
    path = tmp_path / "a\nb.nl"
    nldsl("new", path)
    assert nldsl("check", path, "--strict").code == 0


def test_every_kind_is_another_text_and_in_the_help(nldsl: Any, tmp_path: Path) -> None:
    shown = nldsl("new", "--help").out
    texts = set()
    for kind, what in KINDS.items():
        nldsl("new", tmp_path / f"{kind}.nl", "--kind", kind)
        texts.add((tmp_path / f"{kind}.nl").read_text())
        assert what in shown
    assert len(texts) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_to_try_is_right_too(nldsl: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.nl"
    nldsl("new", path, "--kind", kind)
    lines = path.read_text().split("\n")
    for i, line in enumerate(lines):
        code, found, tries = line.partition("# try: ")
        for other in re.findall(r"\w+(?:\([^()]*\))?", tries) if found else ():
            changed = re.sub(r"\w+(\([^()]*\))?\s*$", other, code)
            path.write_text("\n".join([*lines[:i], changed, *lines[i + 1 :]]))
            assert nldsl("check", path, "--strict").code == 0, changed


def test_nothing_is_written_over(nldsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.nl"
    path.write_text("mine\n")
    ran = nldsl("new", path)
    assert (ran.code, ran.err) == (1, f"error: `{path}` exists, and `new` writes over nothing; choose another name\n")
    assert path.read_text() == "mine\n"


def test_a_place_that_can_not_be_written(nldsl: Any, tmp_path: Path) -> None:
    ran = nldsl("new", tmp_path / "none" / "mine.nl")
    assert ran.code == 1
    assert "can't be written: no such file or directory" in ran.err
    assert nldsl("new", "a\0b.nl").code == 1


@pytest.mark.parametrize("arguments", [["mine.py"], ["mine"], ["mine.nl", "--kind", "poem"], []])
def test_usage(nldsl: Any, arguments: list[str]) -> None:
    assert nldsl("new", *arguments).code == 2


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mine", "Mine"), ("my-first_try", "MyFirstTry"), ("2nd", "Model2nd"), ("--", "Model"), ("aB", "AB")],
)
def test_names_of_models(stem: str, name: str) -> None:
    assert model_name(stem) == name
