"""Checkpoints: what was written is what is read, or a sentence says why not; never half of one."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from nldsl.compiler.training import checkpoint, files
from nldsl.compiler.training.checkpoint import NAME, Checkpoint
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.pack import pack, unpack
from nldsl.compiler.training.source import Source

SOURCE = Source("mine.nl:Mine", "mine.nl:Mine", {"mine.nl": "модель", "a/b.nl": ""}, {"rate": Fraction(1, 3)}, "0af")


def made(step: int = 3, size: int = 4) -> Checkpoint:
    shared = torch.arange(float(size))
    return Checkpoint(
        source=SOURCE,
        options={"data": ("a",), "batch": 2, "held_out": 0.1},
        step=step,
        progress={"tokens": 12, "seconds": 0.1},
        parameters={"a.w": shared, "b.w": shared[1:3], "c": torch.tensor(float(step))},
        optimizers=[{"state": {0: {"m": shared, "n": 1}}, "param_groups": [{"lr": 1.0, "params": [0]}]}],
        state={("F", "w"): [shared.expand(2, size), None, True], "tick": torch.tensor(5)},
        rng=torch.get_rng_state(),
        version="0.1.0",
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


# Reading what was written


def test_it_reads_back_bit_by_bit(tmp_path: Path) -> None:
    checkpoint.write(made(), tmp_path)
    found = checkpoint.read(tmp_path)
    for name in ("source", "options", "step", "progress", "parameters", "optimizers", "state", "rng", "version"):
        assert same(getattr(found, name), getattr(made(), name)), name
    assert os.listdir(tmp_path) == [NAME]


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, float("inf"), "x", [], (), {}, {1: (2, [3.5])}, {(1, "a"): {None: Fraction(2, 3)}},
     torch.tensor(1e-45), torch.zeros(0, 3), torch.tensor([True]), torch.ones(2, 3, dtype=torch.bfloat16).T],
)  # fmt: skip
def test_nested_data_with_tensors(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    packed = pack({"v": value}, "p", tensors)
    assert same(unpack(packed, tensors), {"v": value})


def test_two_things_of_one_path_stay_two() -> None:
    tensors: dict[str, torch.Tensor] = {}
    value = {1: torch.zeros(1), "1": torch.ones(1), "a.b": torch.zeros(2), "a": {"b": torch.ones(2)}}
    packed = pack(value, "p", tensors)
    assert same(unpack(packed, tensors), value)


def test_what_a_checkpoint_can_not_hold() -> None:
    with pytest.raises(TypeError, match=r"`p\.x` is a set"):
        pack({"x": {1, 2}}, "p", {})


# What is not as it was written


def test_cut_short_anywhere(tmp_path: Path) -> None:
    checkpoint.write(made(), tmp_path)
    path = tmp_path / NAME
    whole = path.read_bytes()
    for size in sorted({0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1}):
        path.write_bytes(whole[:size])
        with pytest.raises(TrainingError, match="is cut short or altered"):
            checkpoint.read(tmp_path)


def test_altered_anywhere(tmp_path: Path) -> None:
    checkpoint.write(made(), tmp_path)
    path = tmp_path / NAME
    whole = path.read_bytes()
    for place in [*range(9, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = checkpoint.read(tmp_path)
        except TrainingError as error:
            assert "altered" in str(error) or "not written by" in str(error)
        else:
            raise AssertionError(f"byte {place} was altered, and {found} was read")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not exist; give the folder"):
        checkpoint.read(tmp_path / "none")
    with pytest.raises(TrainingError, match=f"holds no {NAME}"):
        checkpoint.read(tmp_path)
    (tmp_path / NAME).write_bytes(safetensors.torch.save({"w": torch.zeros(2)}))
    with pytest.raises(TrainingError, match="was not written by `nldsl train`"):
        checkpoint.read(tmp_path)
    with pytest.raises(TrainingError, match="is a file; give the folder"):
        checkpoint.read(tmp_path / NAME)


def test_a_format_of_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.write(replace(made(), version="9.9"), tmp_path)
    monkeypatch.undo()
    with pytest.raises(TrainingError, match=r"was written by nldsl 9\.9, whose format this one can't read"):
        checkpoint.read(tmp_path)


# Full disks and killed processes


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    checkpoint.write(made(step=3), tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, fails, full)
    with pytest.raises(TrainingError, match="can't be written: no space left on device; the one before is still there"):
        checkpoint.write(made(step=4), tmp_path)
    monkeypatch.undo()
    assert checkpoint.read(tmp_path).step == 3
    assert os.listdir(tmp_path) == [NAME]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The system refuses to let a file grow beyond a limit, in the middle of its writing."""
    checkpoint.write(made(step=3), tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(TrainingError, match="can't be written: file too large; the one before is still there"):
            checkpoint.write(made(step=4, size=500_000), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.read(tmp_path).step == 3
    assert os.listdir(tmp_path) == [NAME]


WRITER = """
import sys
from pathlib import Path
from test_checkpoint import checkpoint, made
for step in range(1, 10_000):
    checkpoint.write(made(step, size=100_000), Path(sys.argv[1]))
    if step == 1:
        print("writing", flush=True)
"""


def test_killed_in_the_middle_it_is_whole(tmp_path: Path) -> None:
    steps = []
    for round_ in range(4):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(0.05 + 0.057 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = checkpoint.read(tmp_path)
        assert same(found.parameters["c"], torch.tensor(float(found.step)))
        steps.append(found.step)
    assert max(steps) > 1
    checkpoint.write(made(), tmp_path)
    assert os.listdir(tmp_path) == [NAME], "what a killed process left is written over"
