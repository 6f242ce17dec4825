"""`nl.lark` -> a Lark parser, its tables kept in a private cache.

Making the tables takes a few hundred milliseconds, loading them about ten.
"""

from __future__ import annotations

import functools
from pathlib import Path

from lark import Lark, __version__

from nldsl.syntax.build_tree import TreeBuilder
from nldsl.syntax.cache import place

SOURCE = Path(__file__).with_name("nl.lark")


@functools.cache
def grammar() -> tuple[Lark, TreeBuilder]:
    """The parser, and the builder that it calls for every rule: one of each, to be used by one thread at a time."""
    builder = TreeBuilder()
    text = SOURCE.read_text(encoding="utf-8")
    tables = place("tables", text, __version__)
    lark = Lark(
        text,
        parser="lalr",
        lexer="basic",
        start="module",
        keep_all_tokens=True,
        maybe_placeholders=False,
        transformer=builder,
        cache=str(tables) if tables else False,
    )
    return lark, builder
