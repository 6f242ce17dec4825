"""The syntax tree: what the text says, before any name is looked up.

Every node is frozen and carries its span. Spans take no part in equality, so two texts that say the
same thing have equal trees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from nldsl.spans import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# Expressions


@dataclass(frozen=True)
class Number(Node):
    value: int | Fraction | bool  # decimals are kept exactly: 0.9 is 9/10


@dataclass(frozen=True)
class Name(Node):
    id: str


@dataclass(frozen=True)
class List(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Unary(Node):
    op: str  # "-", "not"
    operand: Expr


@dataclass(frozen=True)
class Binary(Node):
    op: str  # + - * / % ^ @ < <= > >= == != and or
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Argument(Node):
    name: str | None
    value: Expr


@dataclass(frozen=True)
class Call(Node):
    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Index(Node):
    value: Expr
    index: Expr


@dataclass(frozen=True)
class Pipe(Node):
    """`value |> function`."""

    value: Expr
    function: Expr


Expr = Number | Name | List | Unary | Binary | Call | Index | Pipe


# Pieces of statements


@dataclass(frozen=True)
class Quantity(Node):
    """`token`, `16 tokens`, `slow_every updates`; the unit is kept in the singular."""

    count: Expr
    unit: str  # token, update, step, sequence


@dataclass(frozen=True)
class Target(Node):
    """A declared name with its optional axis of heads: `K[heads]`."""

    name: str
    heads: Expr | None = None


@dataclass(frozen=True)
class Reset(Node):
    every: Quantity | None = None
    when: Expr | None = None


@dataclass(frozen=True)
class Hold(Node):
    what: str  # gradient, state
    length: Quantity


@dataclass(frozen=True)
class Over(Node):
    """`over last c tokens [weighted gamma]`."""

    length: Quantity
    weight: Expr | None = None


# Statements


@dataclass(frozen=True)
class Assign(Node):
    names: tuple[Name, ...]
    value: Expr


@dataclass(frozen=True)
class MemoryDecl(Node):
    targets: tuple[Target, ...]
    net: Expr
    start: Expr | None = None  # the clause `from …`
    reset: Reset | None = None


@dataclass(frozen=True)
class ParamDecl(Node):
    name: str
    shape: List
    init: Expr


@dataclass(frozen=True)
class StateDecl(Node):
    target: Target
    shape: List | None
    start: Expr
    reset: Reset | None = None


@dataclass(frozen=True)
class Write(Node):
    """`M <- value [every …]`."""

    target: Name
    value: Expr
    every: Quantity | None = None


@dataclass(frozen=True)
class Learn(Node):
    """One optimisation problem. `targets` is empty for `learn *`; `clauses` lists the clause words as
    written, with their spans, so that a check can say which one is missing, doubled or out of place."""

    targets: tuple[Name, ...]
    key: Expr | None = None
    value: Expr | None = None
    minimizing: Expr | None = None
    retaining: Expr | None = None
    by: Expr | None = None
    every: Quantity | None = None
    at: Name | None = None
    hold: Hold | None = None
    over: Over | None = None
    weighted: Expr | None = None
    times: Expr | None = None
    when: Expr | None = None
    through: Quantity | None = None
    detached: bool = False
    clauses: tuple[Name, ...] = ()


@dataclass(frozen=True)
class LevelDecl(Node):
    name: str
    every: Quantity


@dataclass(frozen=True)
class Repeat(Node):
    """`repeat depth { … }`, its copies named `layers.0`, `layers.1`, …; `as blocks` names them otherwise."""

    count: Expr
    body: tuple[Statement, ...]
    name: str | None = None


@dataclass(frozen=True)
class For(Node):
    variable: Name
    values: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If(Node):
    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Return(Node):
    values: tuple[Expr, ...]


Statement = Assign | MemoryDecl | ParamDecl | StateDecl | Write | Learn | LevelDecl | Repeat | For | If | Return


# Definitions and modules


@dataclass(frozen=True)
class Parameter(Node):
    """A hyper-parameter and its default."""

    name: str
    default: Expr | None = None


@dataclass(frozen=True)
class Port(Node):
    """A stream a definition is over: `x: [dim]`, `ids: int`, `g`."""

    name: str
    shape: List | Name | None = None


@dataclass(frozen=True)
class Definition(Node):
    kind: str  # block, model, net, optimizer, objective, retention
    name: Name
    parameters: tuple[Parameter, ...]
    ports: tuple[Port, ...]
    results: tuple[List | Name, ...]  # the shapes after `->`
    body: tuple[Statement, ...]  # a definition written `= e` has the one statement `return e`
    doc: str | None = None
    short: bool = field(default=False, compare=True)  # written `= e`


@dataclass(frozen=True)
class ImportedName(Node):
    name: str
    alias: str | None = None


@dataclass(frozen=True)
class Import(Node):
    """`from std.hope import Hope, CMS as Chain`, or with no names `import std.hope [as alias]`."""

    module: tuple[str, ...]
    names: tuple[ImportedName, ...] = ()
    alias: str | None = None


@dataclass(frozen=True)
class Module(Node):
    imports: tuple[Import, ...]
    definitions: tuple[Definition, ...]
    doc: str | None = None
