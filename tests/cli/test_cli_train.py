"""`nldsl train`: what a run says, keeps and refuses, and how it goes on."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TINY = ("--batch", 2, "--length", 16, "--valid-every", 1000)

EXTREME = """\
model Extreme(vocab = 256, dim = 4, rate = 0.1, outer = 0.1, power = 1) over ids: int {
  x = ids |> embed(vocab, dim)
  memory Early, Late = matrix(dim)
  learn Early : x -> x minimizing l2 by gd(0.1) every token
  learn Late : Early(x) -> x minimizing lp(3) by gd(rate) every 2 tokens
  logits = Early(x) + Late(x) |> linear(vocab)
  loss = cross_entropy(logits, next(ids)) ^ power
  learn * minimizing loss by gd(outer) every step
  return logits
}
"""

COUNT = """\
model Count(vocab = 256) over ids: int {
  x = one_hot(ids, vocab)
  memory M = matrix(vocab) from zeros
  logits = M(x)
  loss = cross_entropy(logits, next(ids))
  learn M minimizing loss by gd(1) every 128 tokens
  return logits
}
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(b"the quick brown fox jumps over the lazy dog; " * 20)
    return path


@pytest.fixture
def run(nldsl: Any, fine: Path, text: Path, tmp_path: Path) -> Any:
    """Trains the small model in a folder, with these options besides."""

    def train(folder: str, *more: object, program: object = fine) -> Any:
        return nldsl("train", program, "--data", text, "--out", tmp_path / folder, *TINY, *more)

    return train


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines(True) if line[-1] == "\n"]


def exact(folder: Path) -> list[dict[str, Any]]:
    """What must be equal bit by bit: the steps' lines without times."""
    timed = ("seconds", "tokens_per_second")
    return [{n: v for n, v in row.items() if n not in timed} for row in metrics(folder) if "loss" in row]


# What it says and keeps


def test_a_run_says_what_it_measures_and_keeps_it(run: Any, tmp_path: Path) -> None:
    ran = run("run", "--steps", 3)
    assert ran.code == 0, ran.err
    assert ran.out == f"Fine after 3 steps and 96 tokens is in {tmp_path / 'run'}\n"
    head, data, *lines = [line for line in ran.err.splitlines() if not line.startswith(("warning", " ", "1 w"))]
    assert head.startswith("Fine: 2,080 parameters on cpu, 2 rows of 16 tokens per step")
    assert data.endswith("text.txt`: 810 bytes to train on, 90 to validate with")
    said = re.compile(
        r"step (\d)/3   loss (\S+) nats   (\S+) bits per byte   (\S+) tokens/s   last writes: levels 1-3 token 16, "
    )
    found = [said.match(line) for line in lines[:3]]
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2, 3, 3]
    for match, row in zip(found, rows, strict=False):
        assert match is not None
        assert (match[1], match[2]) == (str(row["step"]), f"{row['loss']:.4f}")
        assert math.isclose(row["bits_per_byte"], row["loss"] / math.log(2))
        assert row["tokens"] == 32 * row["step"]
        assert row["gradient"] > 0
        assert row["seconds"] > 0
    assert "level 4 token 12" in lines[0], "the fourth window of 4 tokens waits for the token behind it"
    assert re.fullmatch(r"step 3: \S+ bits per byte of the last 10 % of `\S+text\.txt`", lines[3])
    assert set(rows[3]) == {"step", "valid_loss", "valid_bits_per_byte"}
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.safetensors", "metrics.jsonl"]


def test_it_learns(run: Any, tmp_path: Path) -> None:
    assert run("run", "--steps", 30, "--batch", 4, "--set", "dim=8").code == 0
    losses = [row["loss"] for row in exact(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.2


def test_a_memory_budget_changes_no_loss(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nldsl.compiler.training import restore

    budgets: list[int] = []
    compiled = restore.compiled

    def noted(graph: Any, **options: Any) -> Any:
        budgets.append(options["memory_budget"])
        return compiled(graph, **options)

    monkeypatch.setattr(restore, "compiled", noted)
    for folder, more in (("all", ()), ("some", ("--memory-budget", 1))):
        assert run(folder, "--steps", 3, *more).code == 0
    assert budgets == [0, 1 << 20]
    losses = [[line["loss"] for line in metrics(tmp_path / folder) if "loss" in line] for folder in ("all", "some")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 3


def test_a_terminal_gets_a_bar(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ran = run("run", "--steps", 2)
    assert ran.code == 0
    assert "/2" in ran.err
    assert "step 2/2   loss " in ran.err.splitlines()[-1]
    assert "bits per byte of the last 10 %" in ran.err


def test_without_data_it_reads_the_library(nldsl: Any, fine: Path, tmp_path: Path) -> None:
    ran = nldsl("train", fine, "--out", tmp_path / "run", *TINY, "--steps", 1, "--held-out", 0)
    assert ran.code == 0, ran.err
    assert "the source of Python's library: 8,000,000 bytes to train on\n" in ran.err
    assert len(metrics(tmp_path / "run")) == 1


def test_a_text_to_validate_with(run: Any, text: Path, tmp_path: Path) -> None:
    other = text.with_name("other.txt")
    other.write_bytes(b"jumps over")
    ran = run("run", "--steps", 2, "--valid", other, "--valid-every", 1)
    assert "900 bytes to train on, 10 to validate with" in ran.err
    assert len(re.findall(rf"bits per byte of `{other}`", ran.err)) == 2


def test_the_seed_draws_parameters_and_data(run: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(name, "--steps", 2, "--seed", seed)
    first, again, other = (exact(tmp_path / name) for name in "abc")
    assert first == again
    assert first[0]["loss"] != other[0]["loss"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--length", 3), "would write every 4 tokens, and there are 3"),
        (
            ("--length", 4),
            "writes every 4 tokens when the next token is read, so never within 4; --length 5 or --carry",
        ),
        (("--length", 2, "--carry", "--steps", 1), "would write every 4 tokens, and there are 2"),
        (("--length", 5), ""),
        (("--length", 2, "--carry", "--steps", 3), ""),
    ],
)
def test_levels_that_would_never_write(run: Any, more: tuple[object, ...], said: str) -> None:
    ran = run("run", "--steps", 1, *more)
    assert ran.code == 0
    assert ("warning" in ran.err) == bool(said)
    assert said in ran.err


# Going on


@pytest.mark.parametrize("carry", [(), ("--carry",)])
def test_three_steps_and_three_more_are_six(run: Any, nldsl: Any, fine: Path, tmp_path: Path, carry: Any) -> None:
    from nldsl.compiler.training import checkpoint

    fine.write_text(fine.read_text().replace("by gd(0.1) every step", "by adamw(0.01) every 2 steps"))
    run("whole", "--steps", 6, *carry)
    run("parts", "--steps", 3, *carry)
    again = nldsl("train", "--out", tmp_path / "parts", "--resume", "--steps", 6)
    assert again.code == 0, again.err
    assert exact(tmp_path / "whole") == exact(tmp_path / "parts")
    whole, parts = (checkpoint.read(tmp_path / name) for name in ("whole", "parts"))
    for name, value in whole.parameters.items():
        assert value.equal(parts.parameters[name]), name
    assert (whole.state is None) == (not carry)
    times = [row["seconds"] for row in metrics(tmp_path / "parts") if "loss" in row]
    assert times == sorted(times), "the time goes on too"


def test_a_state_is_carried_to_the_end_of_its_region(run: Any, fine: Path) -> None:
    fine.write_text(fine.read_text().replace("by gd(0.1) every step", "by gd(0.001) every step"))
    tokens = re.compile(r"levels 1-3 token (\d+),")
    assert tokens.findall(run("on", "--steps", 3, "--carry").err) == ["16", "32", "48"]
    assert tokens.findall(run("anew", "--steps", 3).err) == ["16", "16", "16"]
    wide = ("--batch", 20, "--length", 40, "--carry")  # a region is one piece
    assert tokens.findall(run("wide", "--steps", 3, *wide).err) == ["40", "40", "40"]


def test_lines_behind_the_checkpoint_are_dropped(run: Any, nldsl: Any, tmp_path: Path) -> None:
    run("run", "--steps", 2)
    path = tmp_path / "run" / "metrics.jsonl"
    before = exact(tmp_path / "run")
    path.write_text(path.read_text() + '{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    assert nldsl("train", "--resume", "--out", tmp_path / "run", "--steps", 3).code == 0
    after = exact(tmp_path / "run")
    assert after[:2] == before
    assert [row["step"] for row in after] == [1, 2, 3]


def test_a_run_that_is_done_has_nothing_to_do(run: Any, nldsl: Any, tmp_path: Path) -> None:
    run("run", "--steps", 2)
    ran = nldsl("train", "--resume", "--out", tmp_path / "run", "--steps", 2)
    assert (ran.code, len(exact(tmp_path / "run"))) == (0, 2)


def test_going_on_needs_a_run_and_a_new_run_needs_a_place(run: Any, nldsl: Any, fine: Path, tmp_path: Path) -> None:
    ran = nldsl("train", fine, "--resume", "--out", tmp_path / "none")
    assert (ran.code, "does not exist; give the folder that `nldsl train --out` wrote" in ran.err) == (1, True)
    run("run", "--steps", 1)
    ran = run("run", "--steps", 1)
    assert (ran.code, "holds a run already; go on with it by --resume" in ran.err) == (1, True)
    assert nldsl("train", "--out", tmp_path / "new").code == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch", 3), "is of a run with batch 2, not 3; go on with the same"),
        (("--length", 8), "is of a run with length 16, not 8"),
        (("--seed", 1), "is of a run with seed 0, not 1"),
        (("--carry",), "is of a run with carry False, not True"),
        (("--set", "dim=8"), "is of another program: dim at its default, not dim = 8; go on with the same program"),
    ],
)
def test_going_on_otherwise(run: Any, nldsl: Any, fine: Path, tmp_path: Path, more: Any, said: str) -> None:
    run("run", "--steps", 1)
    ran = nldsl("train", fine, "--resume", "--out", tmp_path / "run", *more)
    assert ran.code == 1
    assert said in ran.err


def test_going_on_with_another_text(run: Any, nldsl: Any, fine: Path, text: Path, tmp_path: Path) -> None:
    run("run", "--steps", 1)
    resume = ("--resume", "--out", tmp_path / "run", "--steps", 2)
    moved = text.rename(text.with_name("moved.txt"))
    ran = nldsl("train", *resume)
    assert (ran.code, "text.txt` can't be read: no such file" in ran.err) == (1, True)
    assert nldsl("train", *resume, "--data", moved).code == 0
    moved.write_bytes(b"x" * 900)
    ran = nldsl("train", *resume, "--data", moved)
    assert (ran.code, "is of a run over other data than" in ran.err) == (1, True)


def test_a_program_may_move_and_get_comments_but_not_change(run: Any, nldsl: Any, fine: Path, tmp_path: Path) -> None:
    run("run", "--steps", 1, "--carry")
    other = tmp_path / "other.nl"
    other.write_text("# better\n" + fine.read_text())
    resume = ("--resume", "--out", tmp_path / "run", "--steps")
    fine.unlink()
    assert nldsl("train", *resume, 2).code == 0, "the checkpoint holds the text"
    assert nldsl("train", other, *resume, 3).code == 0
    other.write_text(other.read_text().replace("momentum(0.1)", "momentum(0.2)"))
    ran = nldsl("train", other, *resume, 4)
    assert (ran.code, "is of another program: " in ran.err) == (1, True)
    ran = nldsl("train", *resume, 4, "--set", "dim=8")
    assert (ran.code, "--set changes a program" in ran.err) == (1, True)


def test_a_checkpoint_that_was_altered(run: Any, nldsl: Any, tmp_path: Path) -> None:
    run("run", "--steps", 1)
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(content)
        for command in (("train", "--resume", "--out"), ("eval",), ("generate",)):
            ran = nldsl(*command, tmp_path / "run")
            assert (ran.code, "altered" in ran.err, len(ran.err.splitlines())) == (1, True, 1)


# Stopping


def test_a_process_that_is_killed_goes_on_as_if_it_were_not(
    run: Any, nldsl: Any, fine: Path, text: Path, tmp_path: Path
) -> None:
    arguments = ["train", fine, "--data", text, "--out", tmp_path / "run", *TINY, "--steps", 400, "--save-every", 2]
    process = subprocess.Popen([sys.executable, "-m", "nldsl.cli", *map(str, arguments)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"step" not in process.stderr.readline().split(b" "):
        assert process.poll() is None
    time.sleep(0.1)
    process.kill()
    process.communicate()
    done = metrics(tmp_path / "run")[-1]["step"]
    assert done < 400
    assert nldsl("train", "--resume", "--out", tmp_path / "run", "--steps", done + 2).code == 0
    run("whole", "--steps", done + 2)
    assert exact(tmp_path / "run") == exact(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_its_step(
    run: Any, nldsl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    from nldsl.compiler.training.loop import Training

    step = Training.step

    def signalled(self: Training) -> Any:
        if self.done == 1:
            signal.raise_signal(number)
        return step(self)

    monkeypatch.setattr(Training, "step", signalled)
    ran = run("run", "--steps", 6)
    assert ran.code == code
    assert "stopping after this step" in ran.err
    assert "Fine after 2 steps" in ran.out
    monkeypatch.undo()
    assert nldsl("train", "--resume", "--out", tmp_path / "run", "--steps", 6).code == 0
    run("whole", "--steps", 6)
    assert exact(tmp_path / "run") == exact(tmp_path / "whole")


def test_a_second_control_c_ends_at_once(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nldsl.compiler.training.loop import Training

    def impatient(self: Training) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Training, "step", impatient)
    assert run("run", "--steps", 6).code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_ends_the_run_with_the_last_checkpoint(
    run: Any, nldsl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nldsl.compiler.training import checkpoint, files

    sync, calls = files.os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 4:  # a checkpoint takes two: the file's and the folder's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    ran = run("run", "--steps", 6, "--save-every", 2)
    monkeypatch.undo()
    assert ran.code == 1
    assert "can't be written: no space left on device; the one before is still there" in ran.err
    assert checkpoint.read(tmp_path / "run").step == 2
    assert nldsl("train", "--resume", "--out", tmp_path / "run", "--steps", 3).code == 0


# Numbers that are not finite


@pytest.fixture
def extreme(tmp_path: Path) -> Path:
    path = tmp_path / "extreme.nl"
    path.write_text(EXTREME)
    return path


def test_a_memory_that_explodes_is_named(run: Any, extreme: Path, tmp_path: Path) -> None:
    from nldsl.compiler.training import checkpoint

    ran = run("run", "--steps", 2, "--set", "rate=1e25", program=extreme)
    assert ran.code == 1
    found = re.search(
        r"error: step 1 stopped at a number that is not finite: memory `Late` \(level (\d), every 2 tokens\) at token "
        r"(\d+) of row \d \(byte [\d,]+ of `\S+`\); `\S+` holds the last good step that was saved, and smaller",
        ran.err,
    )
    assert found is not None, ran.err
    assert int(found[2]) < 15
    assert int(found[2]) % 2 == 1, "it writes at every second token"
    assert checkpoint.read(tmp_path / "run").step == 0


def test_a_step_that_explodes_is_named_and_not_saved(run: Any, extreme: Path, tmp_path: Path) -> None:
    from nldsl.compiler.training import checkpoint

    ran = run("run", "--steps", 2, "--save-every", 1, "--set", "outer=1e38", "--set", "power=80", program=extreme)
    assert ran.code == 1
    assert "stopped at a number that is not finite: " in ran.err
    kept = checkpoint.read(tmp_path / "run")
    assert all(value.isfinite().all() for value in kept.parameters.values())


# What it refuses


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (b"", (), "holds nothing; there is nothing to predict"),
        (b"x", (), "holds one byte"),
        (b"0123456789", ("--held-out", 0), "leaves 10 bytes to train on and one piece of --length 16 takes 16"),
        (b"0123456789", (), "too few to hold out 0.1 of them"),
        (b"x" * 30, ("--carry",), "leaves 27 bytes to train on and 2 rows of --length 16 take 32"),
    ],
)
def test_texts_that_are_too_short(run: Any, text: Path, tmp_path: Path, content: bytes, more: Any, said: str) -> None:
    text.write_bytes(content)
    ran = run("run", *more)
    assert (ran.code, said in ran.err, len(ran.err.splitlines())) == (1, True, 1)


def test_texts_that_are_none(run: Any, text: Path, tmp_path: Path) -> None:
    text.unlink()
    ran = run("run")
    assert (ran.code, "can't be read: no such file or directory" in ran.err) == (1, True)
    text.mkdir()
    ran = run("run2")
    assert (ran.code, "is a folder; name the text files in it" in ran.err) == (1, True)


def test_places_and_devices_that_can_not_be(run: Any, nldsl: Any, fine: Path, text: Path) -> None:
    ran = nldsl("train", fine, "--out", text / "run", "--data", text)
    assert (ran.code, "can't be made: not a directory" in ran.err) == (1, True)
    ran = run("run", "--device", "quantum")
    assert (ran.code, "have no device `quantum`; use --device cpu" in ran.err) == (1, True)
    assert run("run", "--device", "cuda:77").code == 1


def test_several_texts_as_a_shell_gives_them(nldsl: Any, fine: Path, text: Path, tmp_path: Path) -> None:
    other = text.with_name("other.txt")
    other.write_bytes(b"y" * 100)
    for i, given in enumerate((["--data", text, other], ["--data", text, "--data", other])):
        ran = nldsl("train", fine, *given, "--out", tmp_path / str(i), *TINY, "--steps", 1, "--held-out", 0)
        assert "text.txt` and 1 more: 1,000 bytes to train on\n" in ran.err
    assert exact(tmp_path / "0") == exact(tmp_path / "1")
    ran = nldsl("train", fine, text, "--out", tmp_path / "2")
    assert (ran.code, "texts are named by --data" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("vocab = 256", "vocab = 100"), "`Fine` knows 100 tokens, and there are 256 bytes"),
        (("M(x) + A(x)", "N(x)"), "error[NL101]"),
    ],
)
def test_programs_that_do_not_read_text(
    run: Any, fine: Path, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    fine.write_text(fine.read_text().replace(*change))
    ran = run("run")
    assert ran.code == 1
    assert said in ran.err
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_program_that_no_step_would_change(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "count.nl"
    path.write_text(COUNT)
    ran = run("run", program=path)
    assert (ran.code, "`Count` has nothing that learns once per step" in ran.err) == (1, True)


@pytest.mark.parametrize(
    "more", [("--steps", 0), ("--batch", 0), ("--length", 1), ("--held-out", 1), ("--set", "dim"), ("--save-every", 0)]
)
def test_usage(run: Any, more: tuple[object, ...]) -> None:
    assert run("run", *more).code == 2
