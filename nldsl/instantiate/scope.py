"""Where an expression stands while a program is instantiated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nldsl.diagnostics import Diagnostic, Findings
from nldsl.graph import Objective, Period
from nldsl.instantiate.builder import MAX_DEPTH, Budget, Builder, TooLarge
from nldsl.instantiate.values import POISON, Handle, Poison, Ref, Value
from nldsl.modules import ModuleScope
from nldsl.spans import Span
from nldsl.syntax import tree


@dataclass
class Window:
    """The slower clock that an expression is for: `window_mean` and its kin gather over `count` ticks."""

    count: int
    unit: str
    when: Ref | None = None
    serves: str = ""  # the memory that is written; its windows restart with it
    heads: int = 0  # in a learn's arguments: the heads of what it teaches
    aligned: bool = False  # a learn from the loss: its windows are the model's segments, and only empty at a restart


@dataclass
class Teaching:
    """Inside an objective: the memory that `self` is (None for a joint objective), all that the statement teaches,
    and whether the expression stands inside `data`."""

    handle: Handle | None
    learned: tuple[Handle, ...]
    data: bool = False


@dataclass
class Context:
    """What one instantiation shares: findings, limits, declared levels, the handles and learns of the program."""

    findings: Findings
    budget: Budget
    level_names: dict[str, Period] = field(default_factory=dict)
    level_spans: dict[str, Span] = field(default_factory=dict)
    handles: dict[tuple[Builder, str], Handle] = field(default_factory=dict)
    bodies: dict[str, Any] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    loss: Ref | None = None
    loss_span: Span | None = None
    stars: list[Any] = field(default_factory=list)
    learned: list[Objective] = field(default_factory=list)
    opened: tuple[tree.Definition, ...] = ()
    file: str = ""  # the program's own text
    sites: list[Span] = field(default_factory=list)  # the calls under way, outermost first
    rounds: int = 0  # the most rounds of a `repeat`; 0 for as many as the text says

    def report(
        self, code: str, message: str, span: Span, hint: str = "", severity: str = "error", **rest: Any
    ) -> Poison:
        """Note what is wrong. Where that is in the library, the place to look at is the program's own call."""
        if span.file != self.file:
            own = [site for site in self.sites if site.file == self.file]
            if own:
                rest.setdefault("second", (span, "here"))
                span = own[-1]
        self.findings.add(Diagnostic(code, message, span, hint=hint, severity=severity, **rest))
        return POISON


@dataclass
class Scope:
    """One definition's body while it is being instantiated."""

    context: Context
    module: ModuleScope
    definition: tree.Definition
    builder: Builder
    env: dict[str, Value]
    path: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    unit: str = "token"  # what a tick of this body is
    kind: str = "tick"  # tick, objective, rule
    handle: Handle | None = None  # the memory whose net this is, and where in it
    leaf_path: tuple[str, ...] = ()
    teaching: Teaching | None = None
    via_self: bool = False
    running: Handle | None = None  # the target of `M <- …`
    running_leaf: str = ""
    window: Window | None = None
    tick: Ref | None = None  # what `tick` means, where it isn't this body's
    depth: int = 0
    used: dict[str, int] = field(default_factory=dict)
    binders: dict[str, int] = field(default_factory=dict)

    def at(self, **changes: Any) -> Scope:
        """The same place with something changed; names bound in it are bound here too."""
        new = object.__new__(Scope)
        new.__dict__.update(self.__dict__)
        new.__dict__.update(changes)
        return new

    def deeper(self, definition: tree.Definition, span: Span, **changes: Any) -> Scope:
        """The inside of an applied definition."""
        if self.depth + 1 > MAX_DEPTH:
            raise TooLarge(
                Diagnostic(
                    "NL802", f"definitions are applied more than {MAX_DEPTH} deep", span, hint="use `repeat` for copies"
                )
            )
        fresh: dict[str, Any] = {"prefix": "", "suffix": "", "used": {}, "binders": {}, "depth": self.depth + 1}
        return self.at(definition=definition, **(fresh | changes))

    def element(self, name: str) -> tuple[str, ...]:
        """The path element(s) that applying something called `name` adds here."""
        plain = name + self.suffix if not self.prefix else name
        self.used[plain] = self.used.get(plain, 0) + 1
        if self.used[plain] > 1:
            plain = f"{plain}_{self.used[plain]}"
        return (self.prefix + self.suffix, plain) if self.prefix else (plain,)


def visible(scope: Scope) -> Iterable[str]:
    """Every name that could be meant here, for did-you-mean."""
    yield from scope.env
    yield from scope.module.names()
