"""What an expression can be worth while a program is instantiated."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nldsl.graph import Leaf, Memory, Scalar, Shape
from nldsl.spans import NOWHERE, Span
from nldsl.syntax import tree

if TYPE_CHECKING:
    from nldsl.instantiate.builder import Builder
    from nldsl.modules import ModuleScope


class Poison:
    """The value of something already reported: whatever it touches is poison too, and silent."""


POISON = Poison()


@dataclass(frozen=True)
class Ref:
    """A stream of the body that `owner` builds."""

    id: str
    shape: Shape
    heads: int
    dtype: str
    lag: int
    owner: Builder = field(repr=False)


@dataclass(frozen=True)
class Function:
    """A definition with its hyper-parameters bound, not yet applied to streams."""

    definition: tree.Definition
    module: ModuleScope
    bound: dict[str, Value] = field(default_factory=dict)
    complete: bool = False
    span: Span = NOWHERE

    @property
    def name(self) -> str:
        return self.definition.name.id


@dataclass(frozen=True)
class Composition:
    """Nets in a row: `residual_mlp(d) |> linear(1)`."""

    parts: tuple[Function, ...]


@dataclass(frozen=True)
class AttentionForm:
    window: int
    persistent: int


@dataclass(frozen=True)
class Builtin:
    """A primitive, perhaps with attributes given before its streams: `split(heads)`."""

    name: str
    given: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Namespace:
    """A module imported whole."""

    module: ModuleScope


@dataclass(eq=False)
class Handle:
    """A declared memory, state or in-place net while its body is being built. `parts` are the nets it is made of;
    its leaves are known once it has been applied to a stream, or its input's size is written in the text."""

    path: str
    form: str
    heads: int
    parts: tuple[Function, ...] = ()
    span: Span = NOWHERE
    declared: bool = True
    leaves: dict[str, Leaf] = field(default_factory=dict)
    result: Shape | None = None
    start: str = "learned"
    start_expr: tree.Expr | None = None
    start_env: Any = None
    starts: tuple[Any, ...] = ()
    reset_every: int = 0
    reset_when: str = ""
    window: int = 0
    persistent: int = 0
    key_size: int = 0
    value_size: int = 0
    owner: Any = None
    broken: bool = False

    def record(self) -> Memory:
        return Memory(
            self.path,
            self.form,
            self.heads,
            tuple(self.leaves.values()),
            self.start,
            self.starts,
            self.reset_every,
            self.reset_when,
            self.window,
            self.persistent,
            self.key_size,
            self.value_size,
            self.span,
        )


Operand = Ref | Scalar | Poison
Value = Scalar | Ref | Function | Composition | AttentionForm | Builtin | Namespace | Handle | Poison | list[Any]


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) or type(value) is Fraction


def describe(value: object) -> str:
    """What a value is, in the user's words."""
    match value:
        case bool():
            return "a truth value"
        case int() | float() | Fraction():
            return "a number"
        case Ref():
            return "a stream"
        case Function(definition=d):
            return f"the {d.kind} `{d.name.id}`"
        case Composition():
            return "a chain of nets"
        case AttentionForm():
            return "attention"
        case Builtin(name=n):
            return f"the function `{n}`"
        case Handle(form="state"):
            return f"the state `{value.path.rpartition('.')[2]}`"
        case Handle():
            return f"the memory `{value.path.rpartition('.')[2]}`"
        case list():
            return "a list"
        case Namespace():
            return "a module"
    return "something unknown"
