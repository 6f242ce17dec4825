"""`nl.lark` -> a Lark parser, its tables kept in a private cache.

Making the tables takes a few hundred milliseconds, loading them about ten. Lark keeps them as a pickle, so they
lie in a folder that belongs to the user alone; where there is none, they are made anew.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
from pathlib import Path

from lark import Lark, __version__

from nldsl.syntax.build_tree import TreeBuilder

SOURCE = Path(__file__).with_name("nl.lark")


@functools.cache
def grammar() -> tuple[Lark, TreeBuilder]:
    """The parser, and the builder that it calls for every rule: one of each, to be used by one thread at a time."""
    builder = TreeBuilder()
    text = SOURCE.read_text(encoding="utf-8")
    lark = Lark(
        text,
        parser="lalr",
        lexer="basic",
        start="module",
        keep_all_tokens=True,
        maybe_placeholders=False,
        transformer=builder,
        cache=_tables(text) or False,
    )
    return lark, builder


def _tables(text: str) -> str | None:
    """Where the tables of this grammar are kept; None where no folder is the user's own."""
    key = hashlib.sha256(f"{text} {__version__} {sys.version_info[:2]}".encode()).hexdigest()[:16]
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "nldsl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(folder / f"grammar-{key}.tables") if _private(folder) else None
    except (OSError, RuntimeError, ValueError):  # no home, no place, no permission
        return None


def _private(folder: Path) -> bool:
    about = folder.stat()
    mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    others_write = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return mine and not others_write and os.access(folder, os.W_OK)
