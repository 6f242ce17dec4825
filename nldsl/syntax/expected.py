"""What a text could have gone on with, in the user's words: sets of terminals -> phrases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nldsl.syntax.lex import KINDS, terminals

OPERATORS = terminals(
    "PIPE OR AND LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL_EQUAL NOT_EQUAL PLUS MINUS STAR SLASH PERCENT AT_SIGN"
    " CARET"
)
CONTINUE = OPERATORS | {"LPAR", "LSQB", "DOT"}  # whatever may follow a term within an expression
EXPRESSION = terminals("NAME NUMBER TRUE FALSE LPAR LSQB MINUS NOT")  # begins one
VALUES = terminals("TRUE FALSE NOT")  # keywords of expressions
TERM_END = terminals("NAME NUMBER TRUE FALSE RPAR RSQB")
STATEMENT = terminals("NAME MEMORY PARAM STATE LEVEL LEARN REPEAT FOR IF RETURN")
DEFINITION = KINDS | {"IMPORT", "FROM", "DOC"}
UNITS = terminals("TOKEN TOKENS STEP STEPS UPDATE UPDATES SEQUENCE SEQUENCES")
CLAUSES = terminals("MINIMIZING RETAINING BY EVERY AT HOLD OVER WEIGHTED TIMES WHEN THROUGH DETACHED")

SYMBOLS = {
    "PIPE": "|>", "LARROW": "<-", "ARROW": "->", "LESS_EQUAL": "<=", "GREATER_EQUAL": ">=", "EQUAL_EQUAL": "==",
    "NOT_EQUAL": "!=", "LESS": "<", "GREATER": ">", "EQUAL": "=", "PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/",
    "PERCENT": "%", "AT_SIGN": "@", "CARET": "^", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{",
    "RBRACE": "}", "COMMA": ",", "COLON": ":", "DOT": ".",
}  # fmt: skip

# Rows tried in order: where all of the first are possible, say the phrase and drop the second.
PHRASES: tuple[tuple[frozenset[str], frozenset[str], str], ...] = (
    (frozenset(("NUMBER", "TOKENS")), EXPRESSION | UNITS, "a period such as `16 tokens`"),
    (frozenset(("NUMBER",)), EXPRESSION, "an expression"),
    (frozenset(("TOKENS",)), UNITS | CONTINUE, "a unit such as `tokens`"),
    (frozenset(("MEMORY",)), STATEMENT | CONTINUE, "a statement"),
    (frozenset(("BLOCK",)), DEFINITION | CONTINUE, "a definition"),
    (frozenset(("MINIMIZING",)), CLAUSES, "a clause such as `every token`"),
    (frozenset(("PIPE",)), CONTINUE, "an operator"),
    (frozenset(("NAME",)), frozenset(("NAME",)), "a name"),
)


def keyword(terminal: str) -> bool:
    """Is it a word that could be meant as a name? (Not those of expressions: `not`, `true`.)"""
    return terminal not in SYMBOLS and terminal not in VALUES | {"NAME", "NUMBER", "DOC", "$END"}


def word(terminal: str) -> str:
    """A terminal as it stands in texts, in backticks."""
    return f"`{SYMBOLS.get(terminal, terminal.lower())}`"


def phrase(accepted: Iterable[str]) -> str:
    """`an expression`, or "`,`, `)` or an operator"; empty for nothing."""
    left = set(accepted) - {"$END"}
    said: list[str] = []
    for needed, covered, words in PHRASES:
        if needed <= left:
            said.append(words)
            left -= covered
    literals = sorted(word(terminal) for terminal in left - {"DOT"})
    return listed([*literals, *reversed(said)])


def listed(options: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else "".join(options)
