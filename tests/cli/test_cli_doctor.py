"""`nldsl doctor`: what it says, as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ILL = """
model Erases(vocab = 256, dim = 4, keep = 0.5) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = matrix(dim)
  y = M(x)
  learn M : x -> x minimizing dot retaining decay(keep) by gd(1e-8) every token
  logits = y |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
model Explodes(vocab = 256, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M = matrix(dim)
  y = M(x)
  learn M : x -> x minimizing l2 by gd(50) every token
  logits = y |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
model Grows(vocab = 256, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim) |> unit
  memory M = matrix(dim)
  learn M : x -> x minimizing dot by gd(50) every token
  logits = M(x) |> rmsnorm |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
model Never(vocab = 256, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory M, S = matrix(dim)
  learn M : x -> x minimizing l2 by gd(0.01) every token when sum(x) > 1000000
  learn S : x -> x minimizing l2 by gd(0.01) every 8192 tokens
  logits = M(x) + S(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
model Dead(vocab = 256, dim = 4) over ids: int {
  x = ids |> embed(vocab, dim)
  memory Unused = matrix(dim)
  logits = x + 0 * Unused(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
"""


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ill") / "ill.nl"
    path.write_text(ILL)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(b"the quick brown fox jumps over the lazy dog; " * 10)
    return path


def rows(text: str, name: str) -> list[list[str]]:
    """The rows of a report that begin with this name, cell by cell."""
    return [re.split(r"  +", line) for line in text.splitlines() if line.startswith(name + " ")]


def test_a_program_that_is_fine(nldsl: Any, fine: Path, text: Path) -> None:
    ran = nldsl("doctor", fine, "--tokens", 24, "--batch", 3, "--data", text)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Fine read 3 sequences of 24 tokens of `{text}`\n")
    assert ran.out.endswith("Fine: all fine\n")
    [memory] = rows(ran.out, "M")
    assert len(memory) == 5
    assert memory[-1] == "fine"
    assert rows(ran.out, "learn M") == [["learn M", "1", "100 %", "fine"]]
    assert rows(ran.out, "learn F") == [["learn F", "4", "20.8 %", "fine"]]  # 5 of 24: the last waits for the next
    assert "4 parameters: each got a gradient in 3 training steps" in ran.out


@pytest.mark.parametrize(
    ("program", "name", "verdict"),
    [
        ("Erases", "M", r"erases itself: 1\.5e-05 of its start after 16 tokens; let `retaining decay` keep more"),
        ("Explodes", "M", r"not finite from token \d+ on; smaller rates may help"),
        ("Grows", "M", r"grows: \S+ times its start after 16 tokens; let `by gd` take smaller steps, or let it "
                       r"forget by `retaining decay\(0\.99\)`"),
        ("Never", "M", r"never written in 30 tokens: its `when` holds in no whole window; ease the condition"),
        ("Never", "S", r"never written in 30 tokens: period 8,192; a shorter one, or more --tokens"),
        ("Dead", "Unused.w", r"dead parameter: no gradient in 3 steps of 30 tokens; use it, or take it out"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_the_way_out(
    nldsl: Any, ill: Path, text: Path, program: str, name: str, verdict: str
) -> None:
    ran = nldsl("doctor", f"{ill}:{program}", "--tokens", 30, "--data", text)
    assert (ran.code, ran.err) == (1, "")
    [row] = rows(ran.out, name)
    assert re.fullmatch(verdict, row[-1])
    assert f"{program}: something is wrong: " in ran.out


def test_hyper_parameters_can_cure(nldsl: Any, ill: Path, text: Path) -> None:
    ran = nldsl("doctor", f"{ill}:Erases", "--tokens", 30, "--data", text, "--set", "keep=0.99")
    assert ran.code == 0
    [row] = rows(ran.out, "M")
    assert float(row[1]) == pytest.approx(0.99**16, rel=5e-3)
    assert float(row[2]) == pytest.approx(0.99**30, rel=5e-3)
    assert row[3] == "> 23"


def test_a_rule_is_given_its_rates(nldsl: Any) -> None:
    rule = ("doctor", "std.delta:GatedDeltaRule", "--set", "d=4", "--tokens", 30)
    ran = nldsl(*rule)
    assert ran.code == 1
    assert "`GatedDeltaRule` takes its rates from outside (`alpha`, `beta`), and random numbers are none" in ran.err
    ran = nldsl(*rule, "--give", "alpha=0.99", "--give", "beta=0.01")
    assert ran.code == 0
    assert ran.out.startswith(
        "GatedDeltaRule read 2 sequences of 30 tokens of random streams, alpha = 0.99, beta = 0.01"
    )
    assert rows(ran.out, "alpha in <-")[0][1:4] == ["0.99", "0.99", "0.99"]


def test_what_is_given_must_be_an_input(nldsl: Any) -> None:
    ran = nldsl("doctor", "std.delta:DeltaRule", "--set", "d=4", "--give", "gamma=1")
    assert ran.code == 1
    assert "`gamma` is no input of numbers of `DeltaRule`; it has `q`, `k`, `v`, `beta`" in ran.err


def test_a_block_that_learns_from_the_loss_is_examined_in_a_model(nldsl: Any, text: Path) -> None:
    sizes = ("--set", "dim=4", "--set", "periods=[4, 8]")
    ran = nldsl("doctor", "std.hope:CMS", *sizes, "--tokens", 30, "--data", text)
    assert (ran.code, ran.err) == (0, "")
    assert rows(ran.out, "cms.learn F_4")[0][1] == "4"
    assert ran.out.endswith("CMSModel: all fine\n")


def test_json(nldsl: Any, ill: Path, text: Path) -> None:
    ran = nldsl("doctor", f"{ill}:Never", "--tokens", 20, "--data", text, "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["fine"], found["program"], found["tokens"]) == (1, False, "Never", 20)
    first, second = found["memories"]
    assert (first["memory"], first["sizes"], first["horizon"]) == ("M", {"16": 1.0, "20": 1.0}, None)
    assert second["verdict"].startswith("never written in 20 tokens")
    assert [w["share"] for w in found["writers"]] == [0, 0]


def test_random_tokens_and_streams_are_drawn_with_the_seed(nldsl: Any, fine: Path) -> None:
    small = ("--tokens", 8, "--batch", 1, "--json")
    first, again, other = (nldsl("doctor", fine, "--random", *small, "--seed", s).out for s in (1, 1, 2))
    assert first == again != other
    assert json.loads(first)["data"] == "random tokens"
    block = nldsl("doctor", "std.hope:SelfModifyingTitans", *small, "--set", "dim=4", "--set", "heads=1")
    assert json.loads(block.out)["data"] == "random streams"
    assert nldsl("doctor", fine, "--random", *small, "--set", "vocab=100").code == 0


def test_the_folder_of_a_run(nldsl: Any, fine: Path, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    nldsl("train", fine, "--out", folder, "--steps", 1, "--batch", 2, "--length", 8, "--data", text)
    ran = nldsl("doctor", folder, "--tokens", 20)
    assert ran.code == 0, ran.out
    assert ran.out.startswith("Fine read 2 sequences of 20 tokens of the last 10 % of `")
    assert nldsl("doctor", folder, "--set", "dim=8").err.startswith("error: --set changes a program, and `")
    assert "holds no checkpoint" in nldsl("doctor", tmp_path).err


@pytest.mark.parametrize(
    ("program", "more", "code", "said"),
    [
        ("std.hope:SelfModifyingTitans", ["--data", "x.txt"], 1, "`SelfModifyingTitans` is over `x`, not over one"),
        ("FINE", ["--set", "vocab=100"], 1, "`Fine` knows 100 tokens, and there are 256 bytes; use --random"),
        ("FINE", ["--data", "none.txt"], 1, "`none.txt` can't be read: no such file or directory"),
        ("FINE", ["--random", "--data", "x.txt"], 2, "--random and --data are two things to read; give one"),
        ("FINE", ["--tokens", "1"], 2, "--tokens"),
        ("none.nl", [], 1, "none.nl"),
    ],
)
def test_wrong_input(nldsl: Any, fine: Path, program: str, more: list[str], code: int, said: str) -> None:
    dim = ["--set", "dim=4"] if program.startswith("std") else []
    ran = nldsl("doctor", fine if program == "FINE" else program, *more, *dim)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
