"""A token that does not fit -> what is wrong there, in the user's words, and how the parser can go on.

`RULES` are tried in order; the first that knows the mistake explains it, and `unexpected` explains any.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from lark import Token

from nldsl.diagnostics import Diagnostic
from nldsl.spans import Span
from nldsl.syntax import expected as e
from nldsl.syntax.lex import CLOSE, KINDS, OPEN, span_of


@dataclass(frozen=True)
class Situation:
    """The parser before token `i`. `can(back, …)`: could it read these terminals, `back` pieces taken off first?"""

    tokens: list[Token]
    i: int
    file: str
    accepted: frozenset[str]  # what could have stood here
    just_read: bool  # the previous token has just been read and is still a piece of its own
    can: Callable[..., bool]

    @property
    def token(self) -> Token:
        return self.tokens[self.i]

    @property
    def previous(self) -> Token | None:
        return self.tokens[self.i - 1] if self.i else None

    def next(self, count: int = 2, first: int = 1) -> list[str]:
        return [t.type for t in self.tokens[self.i + first : self.i + first + count]]

    def opens_line(self, i: int) -> bool:
        return i == 0 or self.tokens[i - 1].end_line != self.tokens[i].line

    def span(self, token: Token) -> Span:
        return span_of(token, self.file)

    def opener(self) -> Token | None:
        """The innermost bracket that is open here."""
        stack: list[Token] = []
        for token in self.tokens[: self.i]:
            if token.type in OPEN:
                stack.append(token)
            elif token.type in CLOSE and stack and OPEN[stack[-1].type] == token.type:
                stack.pop()
        return stack[-1] if stack else None

    def began_statement(self) -> Token | None:
        """The previous token if it is a name that was read as the beginning of a statement."""
        name = self.previous
        return name if name and name.type == "NAME" and self.just_read and self.can(1, "MEMORY") else None


@dataclass(frozen=True)
class Error:
    """The finding; then either terminals to read in place of `skip` tokens (and of `back` pieces already read), or,
    with no `feed`, panic from token `i + at`."""

    problem: Diagnostic
    feed: tuple[str, ...] = ()
    skip: int = 0
    back: int = 0
    at: int = 0


Rule = Callable[[Situation], Error | None]

# Words of other languages: what they are read as, if anything, and the hint.
FOREIGN: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("def", "fn", "func", "function", "class"),
        ("BLOCK", "a definition begins with `block`, `model`, `net`, `optimizer`, `objective` or `retention`"),
    ),
    **dict.fromkeys(("let", "var", "const", "val"), ("", "a stream is bound with `x = …` alone")),
    **dict.fromkeys(("then", "do", "begin", "end"), ("", "a body stands in braces: `{ … }`")),
    **dict.fromkeys(("while", "loop"), ("", "loops have an end: `repeat n { … }` or `for v in list { … }`")),
    **dict.fromkeys(("elif", "elsif", "elseif"), ("", "write `else if`")),
    "lambda": ("", "there are no anonymous functions: define a `net`"),
    "pass": ("", "an empty body is `{}`"),
    "async": ("", "there is nothing to wait for"),
}


def found(token: Token) -> str:
    named = {"$END": "the end of the text", "DOC": "a doc string"}
    text = token.value if len(token.value) <= 40 else token.value[:40] + "…"
    return named.get(token.type, f"`{text}`")


def _problem(span: Span, message: str, hint: str = "", second: tuple[Span, str] | None = None) -> Diagnostic:
    return Diagnostic("NL010", message, span, hint=hint, second=second)


def arrow_for_less(s: Situation) -> Error | None:
    """`x <-1` where `x < -1` is meant."""
    if s.token.type != "LARROW" or s.opens_line(s.i) or not s.can(0, "LESS", "MINUS", *s.next(1)):
        return None
    message = "`<-` writes to a state or memory, and a value is expected here"
    problem = _problem(s.span(s.token), message, "with a space, `x < -1` compares")
    return Error(problem, ("LESS", "MINUS"), skip=1)


def missing_expression(s: Situation) -> Error | None:
    """`x =` at the end of a line: the name that begins the next line was taken for the value."""
    if s.token.type not in ("EQUAL", "LARROW") or s.i < 2 or s.tokens[s.i - 1].type != "NAME":
        return None
    before = s.tokens[s.i - 2]
    if not s.opens_line(s.i - 1) or before.type in e.TERM_END or before.type in CLOSE or before.type == "LBRACE":
        return None
    return Error(_problem(s.span(before), f"expected an expression after {found(before)}"), at=-1)


def keyword_as_name(s: Situation) -> Error | None:
    """`f(level)`, `level = 3`."""
    following = s.tokens[s.i + 1] if s.i + 1 < len(s.tokens) else s.token
    alone = following.line != s.token.line or following.type not in ("NAME", "NUMBER", "TRUE", "FALSE", "NOT")
    if s.opens_line(s.i):  # there it may well be meant as the word it is
        alone = following.type in ("EQUAL", "LARROW", "COMMA")
    # a unit was read as one, so that is not what is wrong
    previous = s.previous if s.just_read and s.previous and s.previous.type not in e.UNITS else None
    if e.keyword(s.token.type) and alone and s.can(0, "NAME", *s.next()):
        word, feed, skip, back = s.token, ("NAME",), 1, 0
    elif previous and e.keyword(previous.type) and s.can(1, "NAME", *s.next(first=0)):
        word, feed, skip, back = previous, ("NAME",), 0, 1
    else:
        return None
    message = f"{found(word)} is a word of the language and can't be a name"
    return Error(_problem(s.span(word), message, "choose another name"), feed, skip, back)


def foreign_word(s: Situation) -> Error | None:
    name = s.began_statement()
    before = s.tokens[s.i - 2] if name is not None and s.i > 1 and not s.opens_line(s.i - 1) else None
    for word, back in ((before, 1), (name, 1), (s.token, 0)):
        if word is not None and word.type == "NAME" and word.value in FOREIGN:
            replacement, hint = FOREIGN[word.value]
            problem = _problem(s.span(word), f"{found(word)} is no word of the language", hint)
            if word is before:
                return Error(problem)
            fits = bool(replacement) and s.can(back, replacement, *s.next(2, first=1 - back))
            return Error(problem, (replacement,) if fits else (), 1 - back, back if fits else 0)
    return None


def misspelt_word(s: Situation) -> Error | None:
    for word, back, possible in (
        (s.began_statement(), 1, e.STATEMENT | e.CLAUSES | {"ELSE"}),
        (s.token, 0, s.accepted),
    ):
        if word is None or word.type != "NAME":
            continue
        candidates = {kind.lower(): kind for kind in possible if e.keyword(kind)}
        close = difflib.get_close_matches(word.value.lower(), candidates, n=1, cutoff=0.75)
        if close:
            kind = candidates[close[0]]
            problem = _problem(s.span(word), f"unexpected {found(word)}", f"did you mean `{close[0]}`?")
            fits = s.can(back, kind, *s.next(2, first=1 - back))
            return Error(problem, (kind,) if fits else (), 1 - back, back if fits else 0)
    return None


def operator_after_pipe(s: Situation) -> Error | None:
    """`x |> f + 1`."""
    if s.token.type not in e.OPERATORS:
        return None
    depth = 0
    for token in reversed(s.tokens[max(0, s.i - 200) : s.i]):
        depth += (token.type in CLOSE) - (token.type in OPEN)
        if depth == 0 and token.type == "PIPE":
            message = f"the right side of `|>` is a single term, so {found(s.token)} can't follow it"
            hint = f"put parentheses around the pipe: `(x |> f) {s.token.value} …`"
            return Error(_problem(s.span(s.token), message, hint, (s.span(token), "this pipe")))
        if depth < 0 or (depth == 0 and token.type not in e.TERM_END | {"DOT", "LPAR", "LSQB"}):
            return None
    return None


def chained_comparison(s: Situation) -> Error | None:
    comparators = e.OPERATORS & {"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL_EQUAL", "NOT_EQUAL"}
    if s.token.type not in comparators or "AND" not in s.accepted:
        return None
    return Error(_problem(s.span(s.token), "comparisons do not chain", "write `a < b and b < c`"))


def equal_for_comparison(s: Situation) -> Error | None:
    opener = s.opener()
    if s.token.type != "EQUAL" or (opener and opener.type != "LBRACE") or not s.can(0, "EQUAL_EQUAL", *s.next()):
        return None
    problem = _problem(s.span(s.token), "`=` binds a name, and a value is expected here", "`==` compares")
    return Error(problem, ("EQUAL_EQUAL",), skip=1)


def colon_for_brace(s: Situation) -> Error | None:
    if s.token.type != "COLON" or "LBRACE" not in s.accepted:
        return None
    return Error(_problem(s.span(s.token), "expected `{`, found `:`", "a body stands in braces: `{ … }`"))


def conditional_value(s: Situation) -> Error | None:
    """`return a if c else b`."""
    if s.token.type != "ELSE" or "LBRACE" not in s.accepted:
        return None
    return Error(_problem(s.span(s.token), "expected `{`, found `else`", "a conditional value is `where(c, a, b)`"))


def bare_point(s: Situation) -> Error | None:
    """`.5`, `1.`."""
    around = [s.previous.type if s.previous else "", *s.next(1)]
    if s.token.type != "DOT" or "NUMBER" not in around:
        return None
    hint = "a number has digits on both sides of its point: `0.5`, `1.0`"
    return Error(_problem(s.span(s.token), "unexpected `.`", hint))


def missing_operator(s: Situation) -> Error | None:
    """`x = a b`: where `b` could begin the next statement, the error shows only at the token after it."""
    name = s.began_statement()
    if name is not None and not s.opens_line(s.i - 1) and s.tokens[s.i - 2].type in e.TERM_END:
        at = s.i - 1
    elif s.token.type in ("NAME", "NUMBER", "TRUE", "FALSE") and not s.opens_line(s.i) and "PIPE" in s.accepted:
        at = s.i
    else:
        return None
    marks = [e.word(k) for k in ("COMMA", "RPAR", "RSQB") if k in s.accepted and at == s.i]
    left, right = s.tokens[at - 1], s.tokens[at]
    message = f"expected {e.listed([*marks, 'an operator'])} between {found(left)} and {found(right)}"
    return Error(_problem(s.span(right), message))


def wrong_closer(s: Situation) -> Error | None:
    if s.token.type not in CLOSE:
        return None
    opener = s.opener()
    if opener is None or (opener.type == "LBRACE" and s.token.type != "RBRACE"):
        wanted = "NUMBER" in s.accepted  # then that is what to say
        return None if wanted else Error(_problem(s.span(s.token), f"{found(s.token)} closes nothing"))
    right = OPEN[opener.type]
    if right == s.token.type:
        return None
    message = f"found {found(s.token)}, but {found(opener)} is still open"
    problem = _problem(s.span(s.token), message, second=(s.span(opener), "opened here"))
    if s.can(0, right, s.token.type):
        return Error(problem, (right,))
    return Error(problem, (right,), skip=1) if s.can(0, right, *s.next(1)) else Error(problem)


def unclosed(s: Situation) -> Error | None:
    """`x = f(a` at the end of a line."""
    opener = s.opener()
    if opener is None or opener.type == "LBRACE" or OPEN[opener.type] not in s.accepted:
        return None
    right = OPEN[opener.type]
    if not s.can(0, right, s.token.type, *s.next()):
        return None
    message = f"expected {e.word(right)}, found {found(s.token)}"
    return Error(_problem(s.span(s.token), message, second=(s.span(opener), "opened here")), (right,))


def lone_expression(s: Situation) -> Error | None:
    name = s.began_statement()
    if name is None or s.token.type not in e.CONTINUE:
        return None
    hint = "bind it to a name, `y = …`, or `return` it"
    return Error(_problem(s.span(name), "an expression alone is no statement", hint))


def unexpected(s: Situation) -> Error:
    expected = e.phrase(s.accepted)
    message = f"expected {expected}, found {found(s.token)}" if expected else f"unexpected {found(s.token)}"
    opener = s.opener()
    shut = s.token.type in KINDS | CLOSE | {"$END", "DOC"}
    if shut and opener is not None and OPEN[opener.type] in s.accepted:
        return Error(_problem(s.span(s.token), message, second=(s.span(opener), "opened here")))
    outside = "BLOCK" in s.accepted and "MEMORY" not in s.accepted and s.token.type in e.STATEMENT
    return Error(
        _problem(s.span(s.token), message, "a statement stands in the body of a definition" if outside else "")
    )


RULES: tuple[Rule, ...] = (
    arrow_for_less, missing_expression, keyword_as_name, foreign_word, misspelt_word, operator_after_pipe,
    chained_comparison, equal_for_comparison, colon_for_brace, conditional_value, bare_point, missing_operator,
    wrong_closer, unclosed, lone_expression,
)  # fmt: skip


def explain(s: Situation) -> Error:
    return next((error for rule in RULES if (error := rule(s)) is not None), None) or unexpected(s)
