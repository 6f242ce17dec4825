"""The pages of `nldsl explain`. A block of a page is marked: ```nl error gives the page's code and no other, ```nl is
right (warnings would be a mistake too), ```nl sketch shows only a part and is not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nldsl
from nldsl.codes import CODES
from nldsl.program import front_end
from nldsl.render import render

PAGES = {p.stem: p.read_text(encoding="utf-8") for p in sorted((Path(nldsl.__file__).parent / "pages").glob("*.md"))}
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(code, mark.split(), text) for code, page in PAGES.items() for mark, text in BLOCK.findall(page)]
NAMES = [f"{code}-{' '.join(mark)}-{i}" for i, (code, mark, _) in enumerate(BLOCKS)]


def test_every_code_has_a_page() -> None:
    assert set(PAGES) == set(CODES)


@pytest.mark.parametrize("code", PAGES)
def test_head(code: str) -> None:
    assert PAGES[code].splitlines()[0] == f"# {code}: {CODES[code]}"
    assert len(PAGES[code].splitlines()) <= 20


@pytest.mark.parametrize(("code", "mark", "text"), BLOCKS, ids=NAMES)
def test_block(code: str, mark: list[str], text: str) -> None:
    if mark == ["sh"]:
        assert all(line.split()[0] in ("nldsl", "iconv") for line in text.splitlines())
        return
    assert mark in (["nl"], ["nl", "error"], ["nl", "sketch"])
    if mark == ["nl", "sketch"]:
        return
    result = front_end("page.nl", text=text)
    found = result.findings.sorted()
    shown = render(found, result.sources)
    assert {d.code for d in found} == ({code} if "error" in mark else set()), shown
    assert "error" in mark or result.graph is not None


def test_wrong_and_right() -> None:
    """A page shows what is wrong, unless no text can, and what to do about it."""
    for code, page in PAGES.items():
        marks = [mark.split() for mark, _ in BLOCK.findall(page)]
        assert marks, code
        assert marks[0] != ["nl"], f"{code} begins with what is right"
