"""Builds one body: emits streams with their shapes, heads, types and lags inferred from the table of primitives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nldsl.diagnostics import Diagnostic
from nldsl.graph import Body, Objective, Port, Record, Scalar, Shape, Stream, changed, named
from nldsl.instantiate.values import POISON, Handle, Poison, Ref
from nldsl.primitives import PRIMITIVES
from nldsl.shape_rules import Dim, ShapeError, show_shape
from nldsl.spans import Span

MAX_RECORDS = 200_000
MAX_DEPTH = 64
MAX_PARAMETERS = 10**12


class TooLarge(Exception):
    """A limit was reached: the diagnostic says which. Building stops."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic


@dataclass
class Budget:
    """What a program may use up, over all its bodies."""

    records: int = 0
    parameters: int = 0

    def record(self, span: Span) -> None:
        self.records += 1
        if self.records > MAX_RECORDS:
            raise TooLarge(
                Diagnostic(
                    "NL801",
                    f"unrolled, the program has more than {MAX_RECORDS} nodes",
                    span,
                    hint="make a `repeat`, a list or a size smaller",
                )
            )

    def room(self, count: int, span: Span) -> None:
        """Whether there is room for so many more, before they are made one by one."""
        if self.records + count > MAX_RECORDS:
            self.records = MAX_RECORDS
            self.record(span)

    def leaf(self, size: int, span: Span) -> None:
        self.parameters += size
        if self.parameters > MAX_PARAMETERS:
            raise TooLarge(
                Diagnostic(
                    "NL803",
                    f"the program has more than {MAX_PARAMETERS:,} parameters",
                    span,
                    hint="make a size smaller",
                )
            )


@dataclass(eq=False)
class Builder:
    """One body while it grows. `parent` is where its captured streams come from, if anywhere."""

    name: str
    report: Callable[..., Poison]
    budget: Budget
    parent: Builder | None = None
    inputs: list[Port] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    captured: dict[str, Ref] = field(default_factory=dict)
    index: dict[str, Stream] = field(default_factory=dict)

    def port(self, name: str, shape: Shape, heads: int = 0, dtype: str = "real", stream: str = "") -> Ref:
        self.inputs.append(Port(name, "in", shape, heads, dtype, stream))
        return Ref(name, shape, heads, dtype, 0, self)

    def capture(self, ref: Ref) -> Ref:
        """The same stream as this body sees it: its own, or an input that carries it."""
        if ref.owner is self:
            return ref
        if ref.id not in self.captured:
            local = self.port(f"in{len(self.captured)}", ref.shape, ref.heads, ref.dtype, ref.id)
            self.captured[ref.id] = Ref(local.id, local.shape, local.heads, local.dtype, ref.lag, self)
        return self.captured[ref.id]

    def add(self, stream: Stream) -> Ref:
        """Take in a new stream, which gets its id here."""
        self.budget.record(stream.span)
        stream = named(stream, f"%{len(self.index) + 1}")
        self.index[stream.id] = stream
        self.records.append(stream)
        return Ref(stream.id, stream.shape, stream.heads, stream.dtype, stream.lag, self)

    def replace(self, old: Stream, new: Stream) -> None:
        self.index[old.id] = new
        self.records[next(i for i in range(len(self.records) - 1, -1, -1) if self.records[i] is old)] = new

    def rename(self, stream: Stream, name: str) -> None:
        self.replace(stream, changed(stream, name=name))

    def emit(
        self, op: str, args: tuple[Ref | Scalar | Poison, ...], span: Span, shown: object = "", **attrs: Any
    ) -> Ref | Scalar | Poison:
        """Apply a primitive; on numbers alone, compute it exactly. Errors are reported and give poison."""
        row = PRIMITIVES[op]
        refs: list[Any] = []
        for arg in args:
            if isinstance(arg, Poison):
                return POISON
            refs.append(self.capture(arg) if isinstance(arg, Ref) else arg)
        if not self._typed(op, args, span):
            return POISON
        given = [r for r in refs if isinstance(r, Ref)]
        if row.fold is not None and args and not given:
            return self._fold(op, args, span, shown)
        heads = {r.heads for r in given if r.heads}
        if len(heads) > 1:
            self.report(
                "NL303",
                f"{_shown(op, shown)} joins streams of {' and '.join(map(str, sorted(heads)))} heads",
                span,
                hint="`merge` joins heads, `split` makes them",
            )
            return POISON
        count = heads.pop() if heads else 0
        shapes = [r.shape if isinstance(r, Ref) else () for r in refs]
        try:
            if op in ("split", "merge"):
                count, shape = self._heads(op, count, shapes[0], attrs)
            else:
                shape = row.shape(*shapes, **attrs)
        except ShapeError as error:
            hint = self._shape_hint(op, refs)
            message = str(error) if str(error).startswith("`") else f"{_shown(op, shown)}: {error}"
            self.report(error.code, message, span, hint=hint)
            return POISON
        dtype = self._dtype(row.dtype, refs)
        return self.add(
            Stream(
                "",
                op,
                tuple(r.id if isinstance(r, Ref) else r for r in refs),
                tuple(attrs.items()),
                shape,
                count,
                dtype,
                lag=max([r.lag for r in given], default=0),
                span=span,
            )
        )

    def _heads(self, op: str, count: int, shape: Shape, attrs: dict[str, Any]) -> tuple[int, Shape]:
        rule = PRIMITIVES[op].shape
        if op == "split":
            if count:
                raise ShapeError(f"this stream has {count} heads already")
            return attrs["heads"], rule(shape, attrs["heads"])
        if not count:
            raise ShapeError("this stream has no heads to merge")
        return 0, rule(shape, count)

    def _typed(self, op: str, args: tuple[Any, ...], span: Span) -> bool:
        """Whether every argument is what the primitive takes: a number, a truth value or an index."""
        row = PRIMITIVES[op]
        for i, arg in enumerate(args):
            wanted = row.wants(i)
            have = arg.dtype if isinstance(arg, Ref) else _DTYPES.get(type(arg), "real")
            if wanted in ("any", have) or (wanted == "real" and have == "int"):
                continue
            name = row.args[min(i, len(row.args) - 1)].rstrip("*")
            self.report(
                "NL107",
                f"`{op}` needs {_KINDS[wanted]} for its `{name}`, and this is {_KINDS[have]}",
                span,
                hint=_CONVERSIONS[wanted],
            )
            return False
        return True

    def _fold(self, op: str, args: tuple[Any, ...], span: Span, shown: object) -> Scalar | Poison:
        fold = PRIMITIVES[op].fold
        assert fold is not None
        try:
            value = fold(*args)
        except ZeroDivisionError:
            return self.report("NL207", f"{_shown(op, shown)} divides by 0", span)
        except OverflowError:
            return self.report("NL207", f"{_shown(op, shown)} is too large a number", span)
        except ValueError:
            return self.report("NL207", f"{_shown(op, shown)} is no real number", span)
        if isinstance(value, complex):
            return self.report("NL207", f"{_shown(op, shown)} is no real number", span)
        whole: Scalar = int(value) if isinstance(value, Fraction) and value.denominator == 1 else value
        return whole

    @staticmethod
    def _dtype(rule: str, refs: list[Any]) -> str:
        if rule != "same":
            return rule
        whole = all(r.dtype == "int" if isinstance(r, Ref) else isinstance(r, int) for r in refs)
        return "int" if whole else "real"

    @staticmethod
    def _shape_hint(op: str, refs: list[Any]) -> str:
        if op == "orthogonal":
            return "an optimizer can branch: `if rank(g) == 2 { … }`"
        if op == "matmul" and all(isinstance(r, Ref) for r in refs):
            a, b = refs
            if len(b.shape) == 2 and a.shape and a.shape[-1] == b.shape[1]:
                return "the language is in row convention, `x @ w` with w: [in, out]; perhaps `transpose(…)`"
        return ""

    def body(self, results: tuple[str, ...], keys: tuple[tuple[str, str, str], ...] = ()) -> Body:
        """The finished body; memories that turned out to have nothing to keep are left out."""
        return Body(self.name, tuple(self.inputs), tuple(finished(self.records)), results, keys)


_DTYPES = {bool: "bool", int: "int", Dim: "int"}  # of numbers; all others are real
_KINDS = {"bool": "a truth value", "int": "an index", "real": "a number"}
_CONVERSIONS = {
    "bool": "compare something: `x > 0`",
    "int": "an index is a stream of `int`, such as `ids`, `tick` or `floor(x)`",
    "real": "`where(condition, 1, 0)` makes numbers of truth values",
}


def finished(records: list[Any]) -> list[Record]:
    result: list[Record] = []
    for record in records:
        if isinstance(record, Handle):
            if record.leaves or record.form == "attention":
                result.append(record.record())
        elif isinstance(record, (Stream, Objective)):
            result.append(record)
    return result


def _shown(op: str, shown: object) -> str:
    return f"`{shown or op}`"


def shape_text(ref: Ref) -> str:
    heads = f"{ref.heads} heads of " if ref.heads else ""
    return heads + show_shape(ref.shape)
