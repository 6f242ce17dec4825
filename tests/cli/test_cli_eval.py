"""`nldsl eval` and `nldsl generate`: what a trained program is used for."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nldsl.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fine_text: str) -> Path:
    """The folder of a run of two steps."""
    place = tmp_path_factory.mktemp("trained")
    (place / "fine.nl").write_text(fine_text)
    (place / "text.txt").write_bytes(b"the quick brown fox jumps over the lazy dog; " * 20)
    options = f"--data {place}/text.txt --steps 2 --batch 2 --length 20 --out {place}/run"
    with pytest.raises(SystemExit) as ended:
        main(["train", str(place / "fine.nl"), *options.split()])
    assert ended.value.code == 0
    return place / "run"


def table(text: str) -> dict[str, list[float]]:
    rows = (re.split(r"  +", line) for line in text.splitlines() if re.match(r"(all|\d+-\d+) ", line))
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


# eval


def test_bits_per_byte_by_place_with_and_without_learning(nldsl: Any, trained: Path) -> None:
    ran = nldsl("eval", trained)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("Fine after 2 steps read 80 bytes of the last 10 % of `")
    assert "4 sequences of 20" in ran.out
    found = table(ran.out)
    assert list(found) == ["0-15", "16-19", "all"]
    for bits, without, gain in found.values():
        assert math.isclose(without - bits, gain, abs_tol=2e-4)
    (first, *_), (second, *_), (whole, *_) = found.values()
    assert math.isclose(whole, (15 * first + 4 * second) / 19, abs_tol=2e-4)


def test_another_text_length_and_limit(nldsl: Any, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(b"0123456789" * 30)
    ran = nldsl("eval", trained, "--data", path, "--length", 70, "--limit", 150, "--batch", 1)
    assert f"read 140 bytes of `{path}`: 2 sequences of 70" in ran.out
    assert list(table(ran.out)) == ["0-15", "16-63", "64-69", "all"]
    path.write_bytes(b"01")
    assert "1 sequence of 2" in nldsl("eval", trained, "--data", path).out


def test_how_sequences_are_read_changes_nothing(nldsl: Any, trained: Path) -> None:
    one, three = (table(nldsl("eval", trained, "--length", 29, "--batch", n).out) for n in (1, 3))
    for place in one:
        assert one[place] == pytest.approx(three[place], abs=2e-4)


def test_json_and_the_validation_of_the_run_agree(nldsl: Any, trained: Path) -> None:
    found = json.loads(nldsl("eval", trained, "--json").out)
    assert found["program"] == "Fine after 2 steps"
    assert [p["count"] for p in found["with"]["places"]] == [60, 16]
    assert set(found) == {"program", "data", "with", "without"}
    *_, last = (trained / "metrics.jsonl").read_text().splitlines()
    assert math.isclose(json.loads(last)["valid_bits_per_byte"], found["with"]["bits_per_byte"], rel_tol=1e-5)


def test_a_program_that_learns_nothing_in_context(nldsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "plain.nl"
    nldsl("new", path, "--kind", "optimizer")
    folder = tmp_path / "plain"
    ran = nldsl("train", path, "--out", folder, "--set", "dim=4", "--steps", 1, "--batch", 1, "--length", 8)
    assert ran.code == 0, ran.err
    ran = nldsl("eval", folder, "--limit", 16)
    assert "without" not in ran.out.splitlines()[2]
    assert "nothing in it learns on a token clock" in ran.out


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"", "holds nothing"), (b"x", "holds one byte"), ("/", "is a folder")],
)
def test_texts_that_are_none(nldsl: Any, trained: Path, tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "other"
    if content == "/":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    ran = nldsl("eval", trained, "--data", path)
    assert (ran.code, said in ran.err, ran.out) == (1, True, "")


@pytest.mark.parametrize("command", ["eval", "generate"])
def test_folders_that_hold_no_run(nldsl: Any, tmp_path: Path, command: str) -> None:
    for folder, said in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no checkpoint.safetensors")):
        ran = nldsl(command, folder)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == f"error: `{folder}` {said}; give the folder that `nldsl train --out` wrote\n"


# generate


def test_text_goes_on_from_a_prompt_and_the_seed_draws_it(nldsl: Any, trained: Path) -> None:
    first, again, other = (
        nldsl("generate", trained, "--prompt", "the", "--seed", s, "--tokens", 20) for s in (1, 1, 2)
    )
    assert first.code == 0
    assert first.out.startswith("the")
    assert first.out == again.out != other.out


def test_the_likeliest_needs_no_seed(nldsl: Any, trained: Path) -> None:
    cold = ("--temperature", 0, "--tokens", 12)
    first, other = (nldsl("generate", trained, *cold, "--seed", s).out for s in (1, 2))
    assert first == other == nldsl("generate", trained, "--top-k", 1, "--tokens", 12).out


@pytest.mark.parametrize(
    "more", [("--tokens", 0), ("--temperature", -1), ("--top-k", -1), ("--prompt", ""), ("--tokens", "many")]
)
def test_usage(nldsl: Any, trained: Path, more: tuple[object, ...]) -> None:
    assert nldsl("generate", trained, *more).code == 2


def test_a_program_that_keeps_its_logits_to_itself(nldsl: Any, fine: Path, tmp_path: Path) -> None:
    fine.write_text(fine.read_text().replace("return logits", "return y"))
    folder = tmp_path / "run"
    assert nldsl("train", fine, "--out", folder, "--steps", 1, "--batch", 1, "--length", 8).code == 0
    ran = nldsl("generate", folder)
    assert (ran.code, "`Fine` does not return the logits of its loss" in ran.err) == (1, True)


def test_control_c_while_it_writes(nldsl: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nldsl.compiler.training import generation

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "draw", interrupted)
    assert nldsl("generate", trained).code == 130


# The parts


def test_bytes_become_text_as_soon_as_they_are_whole() -> None:
    from nldsl.compiler.training.generation import as_text

    assert list(as_text(iter("aé€".encode()))) == ["a", "é", "€"]
    assert list(as_text(iter(b"a\xffb\xe2\x82"))) == ["a", "�", "b", "�"]
    assert list(as_text(iter(b"\xe2a"))) == ["�a"]


def test_draws() -> None:
    from nldsl.compiler.training.errors import TrainingError
    from nldsl.compiler.training.generation import draw

    generator = torch.Generator().manual_seed(0)
    logits = torch.log(torch.tensor([0.1, 0.2, 0.0, 0.7]))
    logits[2] = -50
    drawn = [draw(logits, 1.0, 0, generator) for _ in range(2000)]
    assert [round(drawn.count(i) / 2000, 1) for i in range(4)] == [0.1, 0.2, 0.0, 0.7]
    assert {draw(logits, 1.0, 2, generator) for _ in range(200)} == {1, 3}
    assert {draw(logits, 1.0, 9, generator) for _ in range(300)} == {0, 1, 3}
    assert {draw(logits, 0, 0, generator), draw(logits, 1e-3, 0, generator)} == {3}
    with pytest.raises(TrainingError, match="logits are not finite"):
        draw(torch.tensor([0.0, torch.nan]), 1.0, 0, generator)
