"""Text -> tree, of texts that were parsed before: neither the parser nor its tables are loaded for them."""

from __future__ import annotations

import functools
from pathlib import Path

from nldsl import __version__
from nldsl.diagnostics import Diagnostic
from nldsl.syntax import cache
from nldsl.syntax.parse import parse
from nldsl.syntax.tree import Module

MOST_CHARACTERS = 100_000  # of a text whose tree is kept


@functools.lru_cache(maxsize=64)
def parsed(text: str, file: str, keep: bool = False) -> tuple[Module, list[Diagnostic]]:
    """As `parse` says it. Trees never change, so each is made once; with `keep`, if nothing is wrong, once for all
    processes."""
    path = cache.place("tree", _parser(), file, text) if keep and len(text) <= MOST_CHARACTERS else None
    kept = cache.load(path, Module) if path else None
    if kept is not None:
        return kept, []
    module, problems = parse(text, file)
    if path and not problems:
        cache.keep(path, module)
    return module, problems


@functools.cache
def _parser() -> str:
    """Which parser makes the trees: its version, and the state of its files, for those who change them."""
    files = sorted(p for p in Path(__file__).parent.iterdir() if p.suffix in (".py", ".lark"))
    return f"{__version__} {[(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]}"
