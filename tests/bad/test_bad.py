"""Wrong programs and what is said about each: `NAME.nl` here has its exact expected text in `NAME.txt`.

A program is named for the code it must give. Comment lines at its top may hold options: `# program: Name`,
`# set: dim=8, depth=2`, `# length: 100`, and `# also: NL101` for another code that is right to appear. What no text
file can show (a missing file, bytes that are no text, ten megabytes) is made here. `pytest --bless` rewrites the
expected texts; read what changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nldsl.codes import CODES
from nldsl.diagnostics import Diagnostic
from nldsl.modules import library
from nldsl.program import front_end
from nldsl.render import render

HERE = Path(__file__).parent
PROGRAMS = sorted(p.stem for p in HERE.glob("*.nl"))
SEVERITIES = {"NL901": "warning", "NL902": "warning", "NL903": "warning", "NL904": "note"}


def options(text: str) -> dict[str, str]:
    """`# key: value` lines before the first line that is no comment."""
    head = re.match(r"(?:#[^\n]*\n)*", text)
    return dict(re.findall(r"^# (program|set|length|also): (.*)$", head[0] if head else "", re.MULTILINE))


def number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def findings(file: str, given: dict[str, str]) -> tuple[list[Diagnostic], str]:
    """What the front end says of a file of the current folder: as data, and as people read it. Without an error there
    is a graph."""
    pairs = [pair.partition("=") for pair in given.get("set", "").split(",") if pair]
    hyper = {name.strip(): number(value) for name, _, value in pairs}
    length = int(given["length"]) if "length" in given else None
    program = f"{file}:{given['program']}" if "program" in given else file
    result = front_end(program, hyper, length=length)
    found = result.findings.sorted()
    assert result.findings.errors or result.graph is not None, "no graph, and no word about why"
    return found, render(found, result.sources).replace(f"{library()}/", "stdlib/")


def compare(name: str, code: str, found: list[Diagnostic], text: str, also: str, bless: bool) -> None:
    codes = {d.code for d in found}
    assert code in codes, f"{name} gives {sorted(codes)}:\n{text}"
    assert codes <= {code, *re.findall(r"NL\d+", also)}, f"{name} gives unrelated codes:\n{text}"
    for d in found:
        assert d.severity == SEVERITIES.get(d.code, "error"), f"{d.code} as {d.severity}"
        assert d.code in CODES
    expected = HERE / f"{name}.txt"
    if bless:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--bless", default=False))


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, bless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    given = options((HERE / f"{name}.nl").read_text(encoding="utf-8"))
    found, text = findings(f"{name}.nl", given)
    compare(name, name[:5], found, text, given.get("also", ""), bless)


# What is made for the test. Each makes `NAME.nl` in an empty folder.

NESTED = "block Deep over x: [4] -> [4] {\n  return " + "(" * 10_000 + "x" + ")" * 10_000 + "\n}\n"
LAYER = "  x = x + (x |> linear(8))\n"


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    assert not path.exists()


MADE: dict[str, Callable[[Path], object]] = {
    "NL001_missing": missing,
    "NL001_folder": folder,
    "NL002_empty": lambda path: path.write_bytes(b""),
    "NL003_binary": lambda path: path.write_bytes(b"PK\x03\x04\x00\x00\x08\x08" + bytes(range(128, 256))),
    "NL003_latin1": lambda path: path.write_bytes("# Ged\xe4chtnis\n".encode("latin1")),
    "NL004_ten_megabytes": lambda path: path.write_text(
        "# a comment of forty-eight bytes, many times over\n" * 200_000
    ),
    "NL004_many_words": lambda path: path.write_text(
        f"block Deep over x: [8] -> [8] {{\n{LAYER * 25_000}  return x\n}}\n"
    ),
    "NL005_ten_thousand": lambda path: path.write_text(NESTED),
}


@pytest.mark.parametrize("name", MADE)
def test_made(name: str, bless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MADE[name](tmp_path / f"{name}.nl")
    found, text = findings(f"{name}.nl", {})
    compare(name, name[:5], found, text, "", bless)


def test_program_folder_is_closed_over() -> None:
    """Subfolders hold only what a program here imports."""
    imported = {p.parent.name for p in HERE.glob("*/*.nl")}
    used = "".join((HERE / f"{name}.nl").read_text(encoding="utf-8") for name in PROGRAMS)
    assert all(f"from {folder}." in used for folder in imported)


# The collection itself


def test_every_code_has_a_program() -> None:
    shown = {name[:5] for name in (*PROGRAMS, *MADE)}
    assert set(CODES) - shown == set()
    assert shown - set(CODES) == set()


def test_every_text_has_its_program() -> None:
    assert sorted(p.stem for p in HERE.glob("*.txt")) == sorted((*PROGRAMS, *MADE))


def test_there_are_at_least_45() -> None:
    assert len(PROGRAMS) >= 45
