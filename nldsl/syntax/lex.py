"""Text -> tokens, with what can be told from tokens alone: characters that are none of the language's, symbols of
other languages, nesting beyond all measure, doc strings that document nothing."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lark import Lark, Token, UnexpectedCharacters

from nldsl.diagnostics import Diagnostic
from nldsl.spans import Span
from nldsl.syntax.build_tree import doc_text

MOST_PROBLEMS = 20
MOST_TOKENS = 100_000  # a few seconds' work
MOST_BRACKETS = 64  # open at once; later passes may call themselves for each
MOST_LEVELS = 128  # of the tree: brackets, and operators and calls one upon the other


def terminals(names: str) -> frozenset[str]:
    """A set of terminals of the grammar, written as words."""
    return frozenset(names.split())


KINDS = terminals("BLOCK MODEL NET OPTIMIZER OBJECTIVE RETENTION")

FLATTEN = "name the parts: bind them to names, or make them blocks and nets"

# Two symbols side by side that mean something elsewhere: what is read instead, and the hint.
HABITS: dict[str, tuple[str, str]] = {
    "**": ("CARET", "a power is written `a ^ b`"),
    ":=": ("EQUAL", "a value is bound with `=`"),
    "=>": ("ARROW", "an arrow is written `->`"),
    "+=": ("EQUAL", "write `x = x + …`"),
    "-=": ("EQUAL", "write `x = x - …`"),
    "*=": ("EQUAL", "write `x = x * …`"),
    "/=": ("EQUAL", "write `x = x / …`"),
    "@=": ("EQUAL", "write `x = x @ …`"),
    "^=": ("EQUAL", "write `x = x ^ …`"),
    "++": ("PLUS", "write `x = x + 1`"),
    "//": ("SLASH", "a comment begins with `#`; a whole quotient is `floor(a / b)`"),
    "/*": ("SLASH", "a comment begins with `#` and ends with its line"),
    "<>": ("NOT_EQUAL", "write `!=`"),
    "=<": ("LESS_EQUAL", "write `<=`"),
    "===": ("EQUAL_EQUAL", "write `==`"),
}

# Characters that the language has no use for, longest first: what is read instead (None: nothing), and the hint.
STRANGE: tuple[tuple[str, str | None, str], ...] = (
    ("&&", "AND", "write `and`"),
    ("||", "OR", "write `or`"),
    ("&", "AND", "write `and`"),
    ("|", "OR", "write `or`; a pipe is `|>`"),
    ("!", "NOT", "write `not`"),
    ("~", "NOT", "write `not`"),
    (";", None, "nothing separates statements: leave it out"),
    ("\\", None, "a statement goes on over lines by itself"),
    ("?", None, "a conditional value is `where(condition, a, b)`"),
    ("−", "MINUS", "write `-`"),
    ("–", "MINUS", "write `-`"),
    ("×", "STAR", "write `*`"),
    ("·", "STAR", "write `*`"),
    ("÷", "SLASH", "write `/`"),
    ("→", "ARROW", "write `->`"),
    ("←", "LARROW", "write `<-`"),
    ("≤", "LESS_EQUAL", "write `<=`"),
    ("≥", "GREATER_EQUAL", "write `>=`"),
    ("≠", "NOT_EQUAL", "write `!=`"),
)
QUOTES = {"'": "'", '"': '"', "“": "”", "‘": "’", "`": "`"}

OPEN = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSE = frozenset(OPEN.values())
DEEPER = terminals(
    "PIPE OR AND NOT LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL_EQUAL NOT_EQUAL PLUS MINUS STAR SLASH PERCENT"
    " AT_SIGN CARET LPAR LSQB ELSE"
)
NEUTRAL = CLOSE | {"NAME", "NUMBER", "TRUE", "FALSE", "DOT", "LBRACE"}


class TooMuch(Exception):
    """The text is beyond a limit: the code, the token at which it is, the limit in a sentence, the way out."""

    def __init__(self, code: str, token: Token, message: str, hint: str) -> None:
        self.code, self.token, self.message, self.hint = code, token, message, hint


@dataclass
class Lexed:
    tokens: list[Token] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    doc: str | None = None  # of the module


def span_of(token: Token, file: str) -> Span:
    start = (token.line or 1, token.column or 1)
    return Span(file, *start, token.end_line or start[0], token.end_column or start[1])


def lex(lark: Lark, text: str, file: str) -> Lexed:
    """All tokens of the text. Raises TooMuch."""
    lexed = Lexed()
    nesting = Nesting()
    for token in _tokens(lark, text, file, lexed.problems):
        last = lexed.tokens[-1] if lexed.tokens else None
        if last is not None and last.end_pos == token.start_pos and last.value + token.value in HABITS:
            token = _habit(lexed.tokens.pop(), token, file, lexed.problems)
        nesting.add(token)
        lexed.tokens.append(token)
        if len(lexed.tokens) > MOST_TOKENS:
            raise TooMuch(
                "NL004", token, f"more than {MOST_TOKENS:,} words and symbols", "use imports to split the text"
            )
        if len(lexed.problems) >= MOST_PROBLEMS:
            break
    _docs(lexed, file)
    return lexed


def _tokens(lark: Lark, text: str, file: str, problems: list[Diagnostic]) -> Iterator[Token]:
    thread: Any = lark.parse_interactive(text).lexer_thread
    while True:
        try:
            yield from thread.lex(None)
            return
        except UnexpectedCharacters:
            counter = thread.state.line_ctr
            length, replacement, problem = _strange(text, counter.char_pos)
            piece = text[counter.char_pos : counter.char_pos + length]
            token = Token(replacement or "", piece, counter.char_pos, counter.line, counter.column)
            counter.feed(piece)
            token.end_line, token.end_column, token.end_pos = counter.line, counter.column, counter.char_pos
            message, hint = problem
            # a doc string without an end is underlined where it begins, not down to the end of the text
            span = span_of(token, file)
            if "\n" in piece:
                span = dataclasses.replace(span, end_line=span.line, end_column=span.column + 3)
            problems.append(Diagnostic("NL011", message, span, hint=hint))
            if replacement:
                yield token
            elif len(problems) >= MOST_PROBLEMS:
                return


def _strange(text: str, at: int) -> tuple[int, str | None, tuple[str, str]]:
    """How long what stands there is, what is read instead, and the message with its hint."""
    char = text[at]
    if text.startswith('"""', at):
        return len(text) - at, None, ("this doc string has no end", 'close it with `"""`')
    if char in QUOTES:
        line_end = text.find("\n", at)
        end = text.find(QUOTES[char], at + 1, line_end if line_end >= 0 else len(text))
        length = 1 if end < 0 else end + 1 - at
        return length, "NAME", (f"unexpected `{char}`", 'there are no strings; a doc string is written `"""…"""`')
    for symbol, replacement, hint in STRANGE:
        if text.startswith(symbol, at):
            return len(symbol), replacement, (f"unexpected `{symbol}`", hint)
    if char.isalpha():
        length = next((i for i, c in enumerate(text[at:]) if not (c.isalnum() or c == "_")), len(text) - at)
        hint = "names are made of the letters a to z and A to Z, digits and `_`"
        return length, "NAME", (f"unexpected character `{char}`", hint)
    length = next((i for i, c in enumerate(text[at:]) if c != char), len(text) - at)
    return length, None, (f"unexpected character {_shown(char)}", "write a plain space" if char.isspace() else "")


def _shown(char: str) -> str:
    if char.isprintable() and not char.isspace():
        return f"`{char}`"
    return f"U+{ord(char):04X} ({unicodedata.name(char, 'a control character').lower()})"


def _habit(first: Token, second: Token, file: str, problems: list[Diagnostic]) -> Token:
    symbol = first.value + second.value
    replacement, hint = HABITS[symbol]
    token = Token(replacement, symbol, first.start_pos, first.line, first.column)
    token.end_line, token.end_column, token.end_pos = second.end_line, second.end_column, second.end_pos
    problems.append(Diagnostic("NL010", f"unexpected `{symbol}`", span_of(token, file), hint=hint))
    return token


class Nesting:
    """An upper bound of the depth of the tree, from tokens alone, so that no text can exhaust the stack.

    Per open bracket: `count` operators and calls since the expression began, below them `below` levels of closed
    brackets; `most` is the depth of finished expressions, `base` what lies outside the bracket.
    """

    def __init__(self) -> None:
        self.base, self.count, self.below, self.most = 0, 0, 0, 0
        self.outer: list[tuple[int, int, int, int]] = []
        self.last = ""

    def add(self, token: Token) -> None:
        kind, last = token.type, self.last
        self.last = kind
        if kind not in DEEPER and kind not in NEUTRAL and not (kind == "IF" and last == "ELSE"):
            self.most = max(self.most, self.count + self.below)
            self.count, self.below = 0, 0
            return
        if kind in DEEPER:
            self.count += 1
        if kind in OPEN:
            self.outer.append((self.base, self.count, self.below, self.most))
            self.base, self.count, self.below, self.most = self.base + self.count + 1, 0, 0, 0
        elif kind in CLOSE and self.outer:
            depth = max(self.most, self.count + self.below) + 1
            self.base, self.count, below, self.most = self.outer.pop()
            self.below = max(below, depth)
        if len(self.outer) > MOST_BRACKETS:
            raise TooMuch("NL005", token, f"more than {MOST_BRACKETS} brackets are open at once", FLATTEN)
        if self.base + self.count + self.below > MOST_LEVELS:
            message = f"more than {MOST_LEVELS} operators, calls and brackets build on one another"
            raise TooMuch("NL005", token, message, FLATTEN)


def _docs(lexed: Lexed, file: str) -> None:
    """Keeps the doc strings that stand before a definition, takes out that of the module, reports the others."""
    kept: list[Token] = []
    open_braces = 0
    for i, token in enumerate(lexed.tokens):
        following = lexed.tokens[i + 1].type if i + 1 < len(lexed.tokens) else ""
        open_braces += (token.type == "LBRACE") - (token.type == "RBRACE")
        outside = open_braces <= 0 or token.column == 1  # a brace may be missing
        if token.type != "DOC" or (following in KINDS and outside):
            kept.append(token)
        elif i == 0 and following in ("DOC", "FROM", "IMPORT"):
            lexed.doc = doc_text(token.value)
        elif following in ("", "DOC", "FROM", "IMPORT") or open_braces > 0:  # else that is an error of its own
            hint = "it stands right before a definition; elsewhere write a comment, `# …`"
            lexed.problems.append(
                Diagnostic("NL012", "this doc string documents nothing", span_of(token, file), hint=hint)
            )
    lexed.tokens = kept
