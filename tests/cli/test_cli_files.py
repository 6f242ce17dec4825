"""Files that are no programs: each gets a sentence and exit code 1, from every command that reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def deep(opening: str, closing: str, count: int = 10_000) -> bytes:
    return f"model M over x: [2] {{ return {opening * count}x{closing * count} }}".encode()


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


FILES: dict[str, tuple[str, bytes | Callable[[Path], None]]] = {
    "missing": ("NL001", missing),
    "folder": ("NL001", lambda path: path.mkdir()),
    "empty": ("NL002", b""),
    "blank": ("NL002", b" \n\t\n"),
    "comment": ("NL002", b"# nothing\n"),
    "binary": ("NL003", bytes(range(256))),
    "latin": ("NL003", "modèle".encode("latin-1")),
    "utf-16": ("NL003", "model M".encode("utf-16")),
    "zeros": ("NL003", b"\0" * 100),
    "long": ("NL004", b"# ten megabytes\n" * 655_360),
    "parentheses": ("NL005", deep("(", ")")),
    "brackets": ("NL005", deep("[", "]")),
    "calls": ("NL005", deep("f(", ")")),
    "minus": ("NL005", deep("-", "")),
    "powers": ("NL005", deep("x^", "")),
    "braces": ("NL005", b"model M over x: [2] " + b"{ repeat 1 " * 10_000),
}


@pytest.fixture(params=FILES)
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    code, make = FILES[request.param]
    path = tmp_path / "strange.nl"
    if callable(make):
        make(path)
    else:
        path.write_bytes(make)
    return code, path


@pytest.mark.parametrize("command", ["check", "show", "show --tree"])
def test_a_file_that_is_no_program(nldsl: Any, strange: tuple[str, Path], command: str) -> None:
    code, path = strange
    ran = nldsl(*command.split(), path)
    assert ran.code == 1
    assert f"error[{code}]" in ran.out + ran.err


def test_an_unreadable_name(nldsl: Any) -> None:
    assert nldsl("check", "a\0b.nl").code == 1
    assert nldsl("check", "x" * 5000 + ".nl").code == 1
    assert nldsl("check", "").code == 1
    assert nldsl("check", "std.nothing:Here").code == 1
    assert nldsl("check", "bad\udcff.nl").code == 1
