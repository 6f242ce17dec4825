"""Tokens -> Module, by panic mode: after a syntax error the parser goes back to where a statement or a definition may
begin, the tokens up to the next one are skipped, and the parse goes on. Every error is reported once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lark import Lark, Token, Tree, UnexpectedToken

from nldsl.diagnostics import Diagnostic
from nldsl.syntax.errors import Situation, explain
from nldsl.syntax.lex import KINDS, MOST_PROBLEMS, terminals
from nldsl.syntax.tree import Module

BEGIN = terminals("MEMORY PARAM LEVEL LEARN RETURN REPEAT")  # words that only begin statements


class Recovery:
    """One parse of one list of tokens, the last of which is `$END`."""

    def __init__(self, lark: Lark, tokens: list[Token], file: str, problems: list[Diagnostic]) -> None:
        self.tokens, self.file, self.problems = tokens, file, problems
        self.state = lark.parse_interactive().parser_state
        # no consequences: nothing in a line with a strange character is reported, and in a line that is broken already
        # only what can be mended on the spot
        self.broken: set[int] = set()
        self.last = (0, 0)  # where the latest error was
        self.strange = {line for p in problems for line in range(p.span.line, p.span.end_line + 1)}

    def run(self) -> Module:
        """The module, or what is left of it."""
        i = 0
        while True:
            token, before = self.tokens[i], list(self.state.state_stack)
            try:
                result = self.state.feed_token(token, token.type == "$END")
            except UnexpectedToken:
                i = self.mend(i, before)
                continue
            if token.type == "$END":
                return cast(Module, result)
            i += 1

    def mend(self, i: int, before: Sequence[Any]) -> int:
        """Reports what is wrong at token `i`, and brings the parser to where it can go on: with which token?"""
        values = self.state.value_stack
        error = explain(
            Situation(
                self.tokens,
                i,
                self.file,
                frozenset(self.accepted(before)),
                bool(i and values and values[-1] is self.tokens[i - 1]),
                lambda back, *types: self.after(self.state.state_stack[: -back or None], *types) is not None,
            )
        )
        line, place = error.problem.span.line, (error.problem.span.line, error.problem.span.column)
        if line not in self.strange and place != self.last and (error.feed or line not in self.broken):
            self.problems.append(error.problem)
        self.last = place
        if len(self.problems) >= MOST_PROBLEMS:
            return self.panic(len(self.tokens) - 1)
        if error.back:
            self.cut(len(self.state.state_stack) - error.back)
        for kind in error.feed:
            replaced = self.tokens[i - error.back] if error.skip or error.back else None
            self.state.feed_token(self.stand_in(kind, replaced or self.tokens[max(i - 1, 0)], at_end=not replaced))
        resumed = i + error.skip if error.feed else self.panic(i + error.at)
        if resumed > i:
            self.broken.add(line)
        return resumed

    @staticmethod
    def stand_in(kind: str, place: Token, at_end: bool) -> Token:
        """A token that is read in place of another, or of nothing at its end."""
        if not at_end:
            return Token.new_borrow_pos(kind, place.value, place)
        line, column, pos = place.end_line, place.end_column, place.end_pos
        return Token(kind, "", pos, line, column, line, column, pos)

    # Panic

    def panic(self, i: int) -> int:
        """Skips to the next token from `i` on with which something can begin or end, and cuts the stack to fit."""
        column, depth, first = self.indent(i), 0, i
        while True:
            kind = self.tokens[i].type
            if kind == "$END" or self.begins_definition(i):
                self.close_bodies(kind)
                return i
            if depth == 0 and (
                (self.begins_statement(i, column, broken=i == first) and self.cut_to("MEMORY", kind))
                or (kind == "RBRACE" and self.cut_to("RBRACE", kind))
                or (kind == "LBRACE" and self.wants_body() and self.cut_to("LBRACE", kind))
            ):
                return i
            depth = max(0, depth + (kind == "LBRACE") - (kind == "RBRACE"))
            i += 1

    def indent(self, i: int) -> int:
        """The column in which the broken statement begins, or its line."""
        line = self.tokens[i].line
        while i > 0 and self.tokens[i - 1].end_line == line:
            i -= 1
        columns = [self.tokens[i].column or 1]
        values = self.state.value_stack
        bodies = [at for at, piece in enumerate(values) if isinstance(piece, Token) and piece.type == "LBRACE"]
        # behind the `{` comes the list of its finished statements, a lark tree, then the pieces of the broken one
        pieces = [p for p in values[bodies[-1] + 1 :] if not isinstance(p, Tree)] if bodies else []
        if pieces:
            columns.append(getattr(pieces[0], "span", pieces[0]).column)
        return min(columns)

    def begins_definition(self, i: int) -> bool:
        kind, following = self.tokens[i].type, [t.type for t in self.tokens[i + 1 : i + 12]]
        if kind in KINDS:
            return following[0] == "NAME"
        if kind == "DOC":
            return following[0] in KINDS
        alone = i == 0 or self.tokens[i - 1].end_line != self.tokens[i].line
        path = [t for t in following if t not in ("NAME", "DOT")]
        return alone and following[0] == "NAME" and (kind == "IMPORT" or (kind == "FROM" and path[:1] == ["IMPORT"]))

    def begins_statement(self, i: int, column: int, broken: bool) -> bool:
        """Also a name that begins a line as far out as the statement, unless it is where that one broke."""
        token = self.tokens[i]
        before = self.tokens[i - 1].type if i else ""
        following = [t.type for t in self.tokens[i + 1 : i + 3]]
        if token.type in BEGIN:
            return True
        if token.type == "NAME":
            opens_line = i == 0 or self.tokens[i - 1].end_line != token.line
            starts = following[0] in ("EQUAL", "LARROW", "COMMA")
            at = token.column or 1
            return opens_line and at <= column and (starts or (at == column and not broken))
        return (
            (token.type == "IF" and before != "ELSE")
            or (token.type == "STATE" and before != "HOLD")
            or (token.type == "FOR" and following == ["NAME", "IN"])
        )

    def wants_body(self) -> bool:
        """Is a `{` the nearest thing that could go on, nearer than the next statement?"""
        return self.height("LBRACE") > self.height("MEMORY")

    def close_bodies(self, kind: str) -> None:
        """Ends every open body, as if its `}` stood here, until `kind` can follow."""
        while True:
            outer, inner = self.height(kind), self.height("RBRACE")
            self.cut(max(outer, inner))
            if outer >= inner:
                return
            place = self.tokens[0]
            for piece in reversed(self.state.value_stack):
                if isinstance(piece, Token):
                    place = piece
                    break
            self.state.feed_token(self.stand_in("RBRACE", place, at_end=True))

    # The stack

    def after(self, stack: Sequence[Any], *types: str) -> list[Any] | None:
        """The stack of states once these terminals are read; None where one of them is not possible."""
        conf = self.state.parse_conf
        states = list(stack)
        for kind in types:
            while kind != "$END" or states[-1] != conf.end_state:
                if kind not in conf.states[states[-1]]:
                    return None
                action, argument = conf.states[states[-1]][kind]
                if action.name == "Shift":
                    states.append(argument)
                    break
                del states[len(states) - len(argument.expansion) :]
                states.append(conf.states[states[-1]][argument.origin.name][1])
        return states

    def accepted(self, stack: Sequence[Any]) -> set[str]:
        row = self.state.parse_conf.states[stack[-1]]
        return {kind for kind in row if kind.isupper() and self.after(stack, kind) is not None}

    def height(self, *kinds: str) -> int:
        """How many states to keep so that each of these terminals could come next; 0 if that is never so."""
        stack = self.state.state_stack
        heights = range(len(stack), 0, -1)
        return next((h for h in heights if all(self.after(stack[:h], kind) is not None for kind in kinds)), 0)

    def cut_to(self, *kinds: str) -> bool:
        height = self.height(*kinds)
        if height:
            self.cut(height)
        return height > 0

    def cut(self, height: int) -> None:
        del self.state.state_stack[height:]
        del self.state.value_stack[height - 1 :]
