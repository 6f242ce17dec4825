"""`nldsl run`: reading bytes in the reference interpreter."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest


def losses(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"loss +(\S+) nats", text)]


def test_a_run_says_the_loss_of_each_window_and_what_moved(nldsl: Any, fine: Path) -> None:
    ran = nldsl("run", fine, "--tokens", 18, "--window", 8)
    assert ran.code == 0
    assert ran.out.startswith("Fine: 2,080 parameters read 18 bytes of the documentation of Python\n")
    assert re.findall(r"tokens +(\d+) to +(\d+)", ran.out) == [("0", "7"), ("8", "15"), ("16", "16")]
    nats, bits = re.findall(r"loss +(\S+) nats +(\S+) bits", ran.out)[0]
    assert math.isclose(float(nats) / math.log(2), float(bits), abs_tol=1e-3)
    rows = [re.split(r"  +", line) for line in ran.out.splitlines() if re.match(r"\d ", line)]
    found = {row[-1]: row[2:4] for row in rows}
    assert found["A"] == ["18", "4 pairs kept"]
    assert found["learn M momentum.s"][0] == "18"
    assert found["learn M momentum.s"][1].endswith("from zero")
    assert found["M"][0] == "18"
    assert found["M"][1].endswith("%")
    assert found["F"][0] == "4"  # the last window's write waits for the next token
    assert rows[-1][2:4] == ["0", "-"]  # a run takes no training step


def test_windows_say_the_same_as_one_run(nldsl: Any, fine: Path) -> None:
    whole = losses(nldsl("run", fine, "--tokens", 13, "--window", 100).out)
    single = losses(nldsl("run", fine, "--tokens", 13, "--window", 1).out)
    assert len(single) == 12
    assert math.isclose(sum(single) / 12, whole[0], abs_tol=1e-4)


def test_the_seed_draws_the_parameters(nldsl: Any, fine: Path) -> None:
    first, again, other = (losses(nldsl("run", fine, "--tokens", 5, "--seed", s).out) for s in (1, 1, 2))
    assert first == again != other


def test_a_file_of_any_bytes_may_be_read(nldsl: Any, fine: Path) -> None:
    path = fine.with_suffix(".bin")
    path.write_bytes(bytes(range(256)))
    assert f"read 6 bytes of {path}" in nldsl("run", fine, path, "--tokens", 6).out
    path.write_bytes(b"abc")
    assert "read 3 bytes" in nldsl("run", fine, path).out


@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_a_text_that_can_not_be_read(nldsl: Any, fine: Path, content: bytes | None) -> None:
    path = fine.with_suffix(".txt")
    if content is not None:
        path.write_bytes(content)
    ran = nldsl("run", fine, path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: `{path}` ")
    assert nldsl("run", fine, fine.parent).code == 1


def test_bytes_need_a_vocabulary_of_256(nldsl: Any, fine: Path) -> None:
    ran = nldsl("run", fine, "--set", "vocab=100")
    assert (ran.code, ran.out) == (1, "")
    assert "`Fine` knows 100 tokens, and there are 256 bytes" in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("block B over x: [2] { return x }", "`B` is over `x: [2]`"),
        ("block B over a: int, b: int { return a }", "`B` is over `a: int`, `b: int`"),
        ("block B over ids: int { return ids |> one_hot(256) }", "`B` has no `loss`"),
    ],
)
def test_a_program_that_reads_no_text(nldsl: Any, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "other.nl"
    path.write_text(text)
    ran = nldsl("run", path)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err


def test_an_interrupted_run_says_what_was_reached(nldsl: Any, fine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nldsl.commands.reader import Reader

    read = Reader.read

    def until(self: Reader, piece: bytes) -> list[float]:
        if self.read_so_far >= 16:
            raise KeyboardInterrupt
        return read(self, piece)

    monkeypatch.setattr(Reader, "read", until)
    ran = nldsl("run", fine, "--tokens", 64)
    assert ran.code == 130
    assert len(losses(ran.out)) == 1
    assert "interrupted after 16 bytes" in ran.out
    assert "learn M momentum.s" in ran.out
