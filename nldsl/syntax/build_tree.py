"""What the parser recognised -> nodes of `tree.py`. One method per rule of `nl.lark`, called from the leaves up.

Each method gets the pieces of its rule: tokens, nodes, and `Part`s (pieces that are no node of the tree).
All of them know where they stand, so the span of a node runs from its first piece to its last.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lark import Token

from nldsl.diagnostics import Diagnostic
from nldsl.spans import NOWHERE, Span
from nldsl.syntax import tree as t

LARGEST = 10**308  # a float64 ends just above
SMALLEST = 10**400  # of a denominator
LONGEST_LITERAL = FURTHEST = 2000  # what is looked at at all: characters, and decimal places

Pieces = list[Any]  # aliases, since the builder has a method `list`


@dataclass(frozen=True)
class Part(t.Node):
    """A piece of a rule: a clause, a body, a list of names. `word` says which."""

    word: str
    items: tuple[Any, ...]


Parts = list[Part]


class TreeBuilder:
    """Set `file`, parse, and read `problems`."""

    def __init__(self) -> None:
        self.file = ""
        self.problems: list[Diagnostic] = []

    def span(self, pieces: Pieces) -> Span:
        first, last = pieces[0], pieces[-1]
        start: Any = first if isinstance(first, Token) else first.span
        end: Any = last if isinstance(last, Token) else last.span
        return Span(self.file, start.line, start.column, end.end_line, end.end_column)

    def part(self, word: str, pieces: Pieces) -> Part:
        return Part(word, _nodes(pieces), span=self.span(pieces))

    # Modules and imports

    def module(self, pieces: Pieces) -> t.Module:
        imports = tuple(p for p in pieces if isinstance(p, t.Import))
        definitions = tuple(p for p in pieces if isinstance(p, t.Definition))
        return t.Module(imports, definitions, span=self.span(pieces) if pieces else NOWHERE)

    def path(self, pieces: Pieces) -> Part:
        """The names of a module; whatever is not a single dot between two of them becomes a step "..", which the linker
        refuses with a sentence."""
        words: list[str] = []
        between: list[str] = ["."]
        for token in pieces:
            if token.type == "NAME":
                words += [".."] * (between != ["."]) + [str(token)]
                between = []
            else:
                between.append(str(token)) if words else between.extend(("", str(token)))
        return Part("path", tuple(words), span=self.span(pieces))

    def imported(self, pieces: Pieces) -> t.ImportedName:
        return t.ImportedName(*_words(pieces), span=self.span(pieces))

    def import_names(self, pieces: Pieces) -> t.Import:
        path, *names = _nodes(pieces)
        return t.Import(path.items, tuple(names), span=self.span(pieces))

    def import_module(self, pieces: Pieces) -> t.Import:
        path = pieces[1].items
        return t.Import(path, (), *_words(pieces[2:]), span=self.span(pieces))

    # Definitions

    def definition(self, pieces: Pieces) -> t.Definition:
        doc = doc_text(pieces.pop(0).value) if pieces[0].type == "DOC" else None
        kind, name, *rest = pieces
        found = {part.word: part for part in rest}
        parameters, ports, results = (found[w].items if w in found else () for w in ("parameters", "ports", "results"))
        short = found.get("short")
        body = (t.Return(short.items, span=short.items[0].span),) if short else found["body"].items
        return t.Definition(
            kind.value,
            self.name([name]),
            parameters,
            ports,
            results,
            body,
            doc,
            short is not None,
            span=self.span(pieces),
        )

    def parameter(self, pieces: Pieces) -> t.Parameter:
        return t.Parameter(pieces[0].value, *_nodes(pieces), span=self.span(pieces))

    def port(self, pieces: Pieces) -> t.Port:
        return t.Port(pieces[0].value, *_nodes(pieces), span=self.span(pieces))

    # Statements

    def names(self, pieces: Pieces) -> Part:
        names = tuple(self.name([p]) for p in pieces if p.type == "NAME")
        return Part("names", names, span=self.span(pieces))

    def assign(self, pieces: Pieces) -> t.Assign:
        return t.Assign(pieces[0].items, pieces[2], span=self.span(pieces))

    def write(self, pieces: Pieces) -> t.Write:
        every = pieces[3].items[0] if len(pieces) > 3 else None
        return t.Write(self.name(pieces[:1]), pieces[2], every, span=self.span(pieces))

    def target(self, pieces: Pieces) -> t.Target:
        return t.Target(pieces[0].value, *_nodes(pieces), span=self.span(pieces))

    def memory(self, pieces: Pieces) -> t.MemoryDecl:
        nodes = _nodes(pieces)
        targets = tuple(n for n in nodes if isinstance(n, t.Target))
        net = nodes[len(targets)]
        start = next((n.items[0] for n in nodes if isinstance(n, Part)), None)
        reset = next((n for n in nodes if isinstance(n, t.Reset)), None)
        return t.MemoryDecl(targets, net, start, reset, span=self.span(pieces))

    def reset(self, pieces: Pieces) -> t.Reset:
        clause = pieces[1]
        return t.Reset(**{clause.word: clause.items[0]}, span=self.span(pieces))

    def param(self, pieces: Pieces) -> t.ParamDecl:
        return t.ParamDecl(pieces[1].value, *_nodes(pieces), span=self.span(pieces))

    def state(self, pieces: Pieces) -> t.StateDecl:
        target, *nodes = _nodes(pieces)
        reset = nodes.pop() if isinstance(nodes[-1], t.Reset) else None
        start = nodes.pop()
        shape = nodes[0] if nodes else None
        return t.StateDecl(target, shape, start, reset, span=self.span(pieces))

    def level(self, pieces: Pieces) -> t.LevelDecl:
        return t.LevelDecl(pieces[1].value, pieces[3].items[0], span=self.span(pieces))

    def repeat(self, pieces: Pieces) -> t.Repeat:
        return t.Repeat(pieces[1], pieces[-1].items, *_words(pieces[2:]), span=self.span(pieces))

    def for_(self, pieces: Pieces) -> t.For:
        return t.For(self.name(pieces[1:2]), pieces[3], pieces[4].items, span=self.span(pieces))

    def if_(self, pieces: Pieces) -> t.If:
        otherwise = pieces[4] if len(pieces) > 3 else None
        branch = otherwise.items if isinstance(otherwise, Part) else (otherwise,) if otherwise else ()
        return t.If(pieces[1], pieces[2].items, branch, span=self.span(pieces))

    def return_(self, pieces: Pieces) -> t.Return:
        return t.Return(_nodes(pieces), span=self.span(pieces))

    # Learning

    def learn(self, pieces: Pieces) -> t.Learn:
        parts = [p for p in pieces if isinstance(p, Part)]
        targets = parts.pop(0).items if parts and parts[0].word == "names" else ()
        key, value = parts.pop(0).items if parts and parts[0].word == "pair" else (None, None)
        clauses = self.joined(parts)
        kept: dict[str, Any] = {}
        for part in clauses:
            item = part.items[0] if part.items else True
            # the first of repeated clauses counts; of several `over`s the first that has a weight, so that a
            # printed `over` never takes a `weighted` behind it for its own
            if part.word not in kept or (part.word == "over" and kept["over"].weight is None):
                kept[part.word] = item
        words = tuple(t.Name(part.word, span=part.span) for part in clauses)
        return t.Learn(targets, key, value, **kept, clauses=words, span=self.span(pieces))

    def joined(self, parts: Parts) -> Parts:
        """The clauses, a `weighted` right after an `over` made a part of it."""
        clauses: Parts = []
        for part in parts:
            last = clauses[-1] if clauses else None
            if part.word == "weighted" and last and last.word == "over" and last.items[0].weight is None:
                span = last.span.to(part.span)
                over = dataclasses.replace(last.items[0], weight=part.items[0], span=span)
                clauses[-1] = Part("over", (over,), span=span)
            else:
                clauses.append(part)
        return clauses

    def at(self, pieces: Pieces) -> Part:
        return Part("at", (self.name(pieces[1:]),), span=self.span(pieces))

    def hold(self, pieces: Pieces) -> Part:
        span = self.span(pieces)
        return Part("hold", (t.Hold(pieces[1].value, pieces[3], span=span),), span=span)

    def over(self, pieces: Pieces) -> Part:
        span = self.span(pieces)
        return Part("over", (t.Over(pieces[2], span=span),), span=span)

    def quantity(self, pieces: Pieces) -> t.Quantity:
        span = self.span(pieces)
        count = pieces[0] if len(pieces) == 2 else t.Number(1, span=span)
        return t.Quantity(count, pieces[-1].value.removesuffix("s"), span=span)

    # Expressions

    def binary(self, pieces: Pieces) -> t.Binary:
        left, op, right = pieces
        return t.Binary(op.value, left, right, span=self.span(pieces))

    def unary(self, pieces: Pieces) -> t.Unary:
        return t.Unary(pieces[0].value, pieces[1], span=self.span(pieces))

    def pipe(self, pieces: Pieces) -> t.Pipe:
        return t.Pipe(pieces[0], pieces[2], span=self.span(pieces))

    def call(self, pieces: Pieces) -> t.Call:
        return t.Call(pieces[0], _nodes(pieces[1:]), span=self.span(pieces))

    def argument(self, pieces: Pieces) -> t.Argument:
        name = pieces[0].value if len(pieces) == 3 else None
        return t.Argument(name, pieces[-1], span=self.span(pieces))

    def index(self, pieces: Pieces) -> t.Index:
        return t.Index(pieces[0], pieces[2], span=self.span(pieces))

    def list(self, pieces: Pieces) -> t.List:
        return t.List(_nodes(pieces), span=self.span(pieces))

    def group(self, pieces: Pieces) -> t.Node:
        # no node of its own, but what stands in it now reaches from parenthesis to parenthesis
        node: t.Node = dataclasses.replace(pieces[1], span=self.span(pieces))
        return node

    def name(self, pieces: Pieces) -> t.Name:
        return t.Name(pieces[0].value, span=self.span(pieces))

    def dotted(self, pieces: Pieces) -> t.Name:
        return t.Name(".".join(_words(pieces)), span=self.span(pieces))

    def truth(self, pieces: Pieces) -> t.Number:
        return t.Number(pieces[0].value == "true", span=self.span(pieces))

    def number(self, pieces: Pieces) -> t.Number:
        span = self.span(pieces)
        value = exact(pieces[0].value)
        if isinstance(value, str):
            self.problems.append(Diagnostic("NL010", value, span))
            value = 0
        return t.Number(value, span=span)

    def __getattr__(self, rule: str) -> Any:
        if rule not in PARTS:
            raise AttributeError(rule)
        word = str(rule)  # tables made anew ask by a lark token, those of the cache by a string
        return lambda pieces: self.part(word, pieces)


# Rules that only hand their nodes on, under their own names.
PARTS = frozenset((
    "parameters", "ports", "results", "body", "short", "begin", "pair", "minimizing", "retaining", "by", "every",
    "weighted", "times", "when", "through", "detached",
))  # fmt: skip


def _nodes(pieces: Pieces) -> tuple[Any, ...]:
    return tuple(p for p in pieces if not isinstance(p, Token))


def _words(pieces: Pieces) -> tuple[str, ...]:
    return tuple(p.value for p in pieces if isinstance(p, Token) and p.type == "NAME")


def exact(text: str) -> int | Fraction | str:
    """The number that a literal writes, exactly; a sentence where it is too large to be one."""
    exponent = re.split("[eE]", text)[1:]
    if len(text) > LONGEST_LITERAL or (exponent and len(exponent[0]) > 5) or abs(int(*exponent or "0")) > FURTHEST:
        negative = bool(exponent) and exponent[0].startswith("-")
        return "this number is too small" if negative else "this number is too large"
    value = Fraction(text)
    if value > LARGEST:
        return "this number is too large"
    if value.denominator > SMALLEST:
        return "this number has too many decimals"
    return value.numerator if value.denominator == 1 else value


def doc_text(quoted: str) -> str:
    """A doc string without its quotes and its indentation."""
    first, *rest = quoted[3:-3].replace("\r\n", "\n").strip().split("\n")
    margin = min((len(line) - len(line.lstrip(" ")) for line in rest if line.strip()), default=0)
    return "\n".join(line.rstrip() for line in [first, *(line[margin:] for line in rest)])
