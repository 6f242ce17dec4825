"""Text -> tree. `read` brings in a file, `parse` makes the tree; both report what is wrong and never raise."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading

from nldsl.diagnostics import Diagnostic
from nldsl.spans import Span
from nldsl.syntax.tree import Module

MOST_BYTES = 1_000_000

_ONE_AT_A_TIME = threading.Lock()  # the parser and its builder are shared


def read(path: str | os.PathLike[str]) -> tuple[str, list[Diagnostic]]:
    """The text of a file, or an empty text and why it can't be had (NL001, NL003, NL004)."""
    file = os.fspath(path)
    start = Span(file, 1, 1, 1, 1)
    try:
        about = os.stat(file)
        if not stat.S_ISREG(about.st_mode):
            what = "a folder" if stat.S_ISDIR(about.st_mode) else "not a file"
            return "", [Diagnostic("NL001", f"`{file}` is {what}", start, hint="give the path of an .nl file")]
        if about.st_size > MOST_BYTES:
            return "", [_too_long(f"`{file}` has {about.st_size} bytes", start)]
        with open(file, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return "", [Diagnostic("NL001", f"`{file}` can't be read: {reason}", start)]
    return _decoded(data, file)


def _decoded(data: bytes, file: str) -> tuple[str, list[Diagnostic]]:
    try:
        text = data.decode("utf-8")
        at = text.find("\0")
        offset = len(text[:at].encode("utf-8")) if at >= 0 else -1
    except UnicodeDecodeError as error:
        text, offset = "", error.start
    if offset < 0:
        return text.removeprefix("\ufeff"), []
    head = data[:offset]
    line, column = head.count(b"\n") + 1, len(head.rpartition(b"\n")[2].decode("utf-8")) + 1
    message = f"`{file}` is not UTF-8 text: byte {offset} is 0x{data[offset]:02X}"
    return "", [Diagnostic("NL003", message, Span(file, line, column, line, column + 1))]


def parse(text: str, file: str = "<text>") -> tuple[Module, list[Diagnostic]]:
    """The tree of a text, and what is wrong with it (NL002, NL004, NL005, NL010 to NL012), at most 20 findings.

    With errors, the tree holds the definitions and statements that could be made out.
    """
    start = Span(file, 1, 1, 1, 1)
    if len(text) > MOST_BYTES:
        return Module((), (), span=start), [_too_long(f"the text has {len(text)} characters", start)]
    with _ONE_AT_A_TIME:
        module, problems = _parse(text, file)
    if not (problems or module.definitions or module.imports):
        problems = [Diagnostic("NL002", "nothing is defined here", start, hint="a text needs a `model` or a `block`")]
    return module, problems


def _parse(text: str, file: str) -> tuple[Module, list[Diagnostic]]:
    from lark import Token  # lark takes a while to load, so only who parses pays for it

    from nldsl.syntax.grammar import grammar
    from nldsl.syntax.lex import MOST_PROBLEMS, TooMuch, lex, span_of
    from nldsl.syntax.recover import Recovery

    nothing = Module((), (), span=Span(file, 1, 1, 1, 1))
    lark, builder = grammar()
    try:
        lexed = lex(lark, text, file)
    except TooMuch as error:
        return nothing, [Diagnostic(error.code, error.message, span_of(error.token, file), hint=error.hint)]
    if len(lexed.problems) >= MOST_PROBLEMS or not lexed.tokens:
        return dataclasses.replace(nothing, doc=lexed.doc), lexed.problems[:MOST_PROBLEMS]
    last = lexed.tokens[-1]
    line, column, at = last.end_line, last.end_column, last.end_pos
    end = Token("$END", "", at, line, column, line, column, at)
    builder.file, builder.problems = file, []
    module = Recovery(lark, [*lexed.tokens, end], file, lexed.problems).run()
    problems = sorted([*lexed.problems, *builder.problems], key=lambda p: p.span)
    return dataclasses.replace(module, doc=lexed.doc), problems[:MOST_PROBLEMS]


def _too_long(message: str, span: Span) -> Diagnostic:
    return Diagnostic("NL004", message, span, hint=f"at most {MOST_BYTES:,} are read; use imports to split it")
