"""The chapters on the library say what its files say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def chapters() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chapters", ROOT / "docs" / "chapters.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chapters_are_what_the_library_is() -> None:
    made = chapters()
    written = {p.name: p.read_text(encoding="utf-8") for p in made.FOLDER.glob("*.md")}
    assert written == dict(made.contents()), "`make docs` writes them anew"


def test_every_picture_is_there_and_no_other() -> None:
    made = chapters()
    texts = "".join(content for _, content in made.contents())
    pictures = {p.name for p in made.FOLDER.glob("*.svg")}
    assert pictures and all(f"({name})" in texts for name in pictures)
    assert texts.count(".svg)") == len(pictures)
