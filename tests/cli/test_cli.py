"""The command line: what every command says, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nldsl.cli import COMMANDS
from nldsl.codes import CODES

EXAMPLES = Path(__file__).parents[2] / "examples"


# check


def test_a_right_program_is_said_to_be_fine(nldsl: Any, fine: Path) -> None:
    ran = nldsl("check", fine)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"{fine}: Fine is fine: 5 levels, 2,080 parameters"


def test_every_model_of_a_file_is_checked(nldsl: Any, fine: Path) -> None:
    text = fine.read_text()
    fine.write_text(text.replace("Fine", "First").replace("embed(vocab, dim)", "embed(vocab, 3)") + text)
    ran = nldsl("check", fine)
    assert ran.code == 1
    assert "error[NL" in ran.out
    assert "Fine is fine" in ran.out
    assert nldsl("check", f"{fine}:Fine").code == 0


def test_a_file_without_a_program_may_be_fine(nldsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "nets.nl"
    path.write_text("net twice over x: [n] -> [n] = 2 * x\n")
    assert nldsl("check", path).out == f"{path}: fine: 1 definition, no program\n"
    ran = nldsl("check", path, "--set", "dim=3")
    assert (ran.code, "NL109" in ran.out) == (1, True)


def test_several_files_and_one_of_them_wrong(nldsl: Any, fine: Path) -> None:
    wrong = fine.with_name("wrong.nl")
    wrong.write_text(fine.read_text().replace("M(x)", "N(x)"))
    ran = nldsl("check", wrong, fine)
    assert ran.code == 1
    assert f"{wrong}:7:7" in ran.out
    assert f"{fine}: Fine is fine" in ran.out


def test_warnings_end_with_one_only_if_strict(nldsl: Any, fine: Path) -> None:
    ran = nldsl("check", fine, "--length", 3)
    assert ran.code == 0
    assert "warning[NL903]" in ran.out
    assert nldsl("check", fine, "--length", 3, "--strict").code == 1
    assert nldsl("check", fine, "--length", 300, "--strict").code == 0


def test_json(nldsl: Any, fine: Path) -> None:
    found = json.loads(nldsl("check", fine, "--json").out)
    assert [d["severity"] for d in found["diagnostics"]] in ([], ["note"])
    assert found["programs"][0]["program"] == "Fine"
    assert (found["programs"][0]["fine"], found["programs"][0]["levels"]) == (True, 5)
    ran = nldsl("check", fine, "--json", "--set", "depth=3")
    assert (ran.code, json.loads(ran.out)["diagnostics"][0]["code"]) == (1, "NL204")


# --set


@pytest.mark.parametrize(
    ("value", "said"),
    [("3", "3"), ("0.5", "1/2"), ("1e-3", "1/1000"), ("2.0", "2"), ("true", "true"), ("[16, 64]", "[16, 64]"),
     ("[0.5,]", "[1/2]"), ("[]", "[]"), (" -7 ", "-7")],
)  # fmt: skip
def test_what_a_hyper_parameter_can_be(nldsl: Any, tmp_path: Path, value: str, said: str) -> None:
    path = tmp_path / "one.nl"
    path.write_text("block One(a = 1) over x: [2] -> [2] { return x }\n")
    ran = nldsl("show", path, "--graph", "--set", f"a={value}")
    assert (ran.code, f"\nhyper a {said}\n" in ran.out) == (0, True)


@pytest.mark.parametrize(
    "given", ["dim", "=3", "dim=", "dim=three", "dim=1/2", "dim=[1", "dim=[[1]]", "dim=1e9999999", "d-m=1", "dim=0x10",
              "dim=1_000", "dim=inf", "dim=" + "9" * 5000]
)  # fmt: skip
def test_a_value_that_is_none_is_a_usage_error(nldsl: Any, fine: Path, given: str) -> None:
    ran = nldsl("check", fine, "--set", given)
    assert (ran.code, ran.out) == (2, "")
    assert "--set" in ran.err


def test_set_twice(nldsl: Any, fine: Path) -> None:
    assert "`dim` is set twice" in nldsl("check", fine, "--set", "dim=1", "--set", "dim=2").err


# show, draw, explain


def test_levels_are_shown_by_default(nldsl: Any, fine: Path) -> None:
    ran = nldsl("show", fine)
    assert ran.code == 0
    assert "learn M momentum.s" in ran.out
    assert ran.out == nldsl("show", fine, "--levels").out


def test_graph_gradients_and_tree(nldsl: Any, fine: Path) -> None:
    assert nldsl("show", fine, "--graph").out.startswith("nldsl graph 1\nprogram Fine kind=model")
    assert "learn *" in nldsl("show", fine, "--gradients").out
    assert "MemoryDecl" in nldsl("show", fine, "--tree").out
    both = nldsl("show", fine, "--tree", "--levels").out
    assert "MemoryDecl" in both
    assert "gradient reaches" in both


def test_the_tree_of_one_definition_even_if_the_program_is_wrong(nldsl: Any, fine: Path, golden: Any) -> None:
    fine.write_text(
        '"""Doubles."""\nnet twice(k = 0.5) over x: [n] -> [n] = where(x > -k, 2 * x, x)\n' + fine.read_text()
    )
    golden("tree.txt", nldsl("show", f"{fine}:twice", "--tree").out)
    fine.write_text(fine.read_text().replace("M(x)", "N(x)"))
    assert nldsl("show", fine, "--tree").code == 0
    assert nldsl("show", f"{fine}:thrice", "--tree").code == 1


@pytest.mark.parametrize("command", ["show", "draw", "run"])
def test_a_wrong_program_is_said_on_stderr(nldsl: Any, fine: Path, command: str) -> None:
    fine.write_text(fine.read_text().replace("M(x)", "N(x)"))
    more = ["-o", str(fine.with_suffix(".dot"))] if command == "draw" else []
    ran = nldsl(command, fine, *more)
    assert (ran.code, ran.out) == (1, "")
    assert "error[NL101]" in ran.err


@pytest.mark.parametrize("program", ["std.hope:Hope", "std.ttt:TTTMLP", "std.transformer:Transformer"])
def test_show_code(nldsl: Any, program: str) -> None:
    """Whatever a program does, its bodies can be traced: one looks up an index, one attends."""
    depth = [] if program.startswith("std.ttt") else ["--set", "depth=1"]
    ran = nldsl("show", program, "--code", "--set", "dim=16", "--set", "heads=2", *depth)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("# body 0: ")
    assert "torch.ops.aten" in ran.out


def test_a_library_definition_by_name(nldsl: Any) -> None:
    assert nldsl("show", "std.hope:Hope", "--set", "dim=16", "--set", "depth=1", "--set", "heads=2").code == 0


def test_drawing(nldsl: Any, fine: Path) -> None:
    path = fine.with_suffix(".dot")
    ran = nldsl("draw", fine, "-o", path)
    assert (ran.code, ran.out) == (0, f"Fine is drawn in {path}\n")
    assert "digraph" in path.read_text()
    assert nldsl("draw", fine, "-o", fine.with_suffix(".jpeg")).code == 2
    assert nldsl("draw", fine).code == 2
    assert nldsl("draw", fine, "-o", fine.parent / "none" / "a.dot").code == 1


def test_explaining(nldsl: Any) -> None:
    assert nldsl("explain", "NL401").out == nldsl("explain", "401").out
    assert nldsl("explain").out.splitlines() == [f"{code}  {title}" for code, title in CODES.items()]
    ran = nldsl("explain", "NL999")
    assert (ran.code, ran.out) == (2, "")


# Help, usage, bugs, pipes


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(nldsl: Any, command: str) -> None:
    ran = nldsl(command, "--help")
    assert ran.code == 0
    assert f"nldsl {command} " in ran.out.partition("Examples:")[2]


def test_the_general_help_and_the_version(nldsl: Any) -> None:
    assert "nldsl draw hope.nl -o hope.svg" in nldsl("--help").out
    assert nldsl("--version").out.startswith("nldsl ")


@pytest.mark.parametrize("arguments", [["chek", "a.nl"], ["check"], ["check", "a.nl", "--colour"], ["show"], ["run"]])
def test_usage_errors_end_with_two(nldsl: Any, arguments: list[str]) -> None:
    ran = nldsl(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage:" in ran.err


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("too deep"), AssertionError(), ValueError("a\nb")])
def test_our_bugs_end_with_seventy(nldsl: Any, fine: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nldsl.program.front_end", broken)
    ran = nldsl("check", fine)
    assert (ran.code, ran.out) == (70, "")
    assert ran.err.startswith("this is a bug in nldsl; please report it with the program\n  " + type(error).__name__)
    assert len(ran.err.splitlines()) == 3


def test_interrupted(nldsl: Any, fine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nldsl.program.front_end", interrupted)
    assert nldsl("check", fine).code == 130


def test_a_broken_pipe_is_quiet() -> None:
    line = f"{sys.executable} -m nldsl.cli show {EXAMPLES / 'two_levels.nl'} --graph | head -n 1"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.stdout, ran.stderr) == ("nldsl graph 1\n", "")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["explain", "NL401"], ["check", "FILE"], ["show", "FILE"], ["show", "FILE", "--graph", "--gradients"],
     ["draw", "FILE", "-o", "DOT"], ["new", "NEW"], *([command, "--help"] for command in COMMANDS)],
)  # fmt: skip
def test_torch_is_not_imported(arguments: list[str], tmp_path: Path) -> None:
    files = {"FILE": EXAMPLES / "two_levels.nl", "DOT": tmp_path / "a.dot", "NEW": tmp_path / "a.nl"}
    given = [str(files.get(a, a)) for a in arguments]
    unwanted = ["torch"] if "FILE" in arguments else ["torch", "lark", "rich"]
    program = (
        "import sys\nfrom nldsl.cli import main\n"
        f"try:\n    main({given!r})\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"assert not [m for m in {unwanted!r} if m in sys.modules]\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
