"""What a stage says, whatever its records are called: layers of a kind then share one body."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from nldsl.compiler.dependences import Node
from nldsl.compiler.distribute import Stage, Together

from nldsl.graph import Body, Leaf, Memory, Objective, Rule, Stream

TOKEN = re.compile(r"‹\d+›")


class Names:
    """Names of a program and what they are called in a signature: ‹0›, ‹1›, ... in the order in which they are met.
    They may stand inside a longer name (`M.up optimizer`, `gradient learn M`)."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self._to: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def token(self, name: str) -> str:
        return self.tokens.setdefault(name, f"‹{len(self.tokens)}›")

    def canonical(self, text: str) -> str:
        """A name of the program as the signature has it."""
        found = self._to.get(text)
        if found is None:
            found = self._to[text] = self._pattern.sub(lambda m: self.tokens[m[0]], text)
        return found

    def original(self, text: str) -> str:
        found = self._back.get(text)
        if found is None:
            found = self._back[text] = TOKEN.sub(lambda m: self._names[m[0]], text)
        return found

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = sorted(map(re.escape, self.tokens), key=len, reverse=True)
        return re.compile(rf"(?:(?<=^)|(?<= ))(?:{'|'.join(longest)})(?=$|[. ])")

    @cached_property
    def _names(self) -> dict[str, str]:
        return {token: name for name, token in self.tokens.items()}


def signature(
    stage: Stage, context: Iterable[Any], bodies: Mapping[str, Body], told: dict[int, Any]
) -> tuple[Any, Names]:
    """A stage as nested tuples without names, and the names. context: further records that decide what it does. told:
    rules' bodies that were told before, by identity."""
    names = Names()
    said = _Said(names, bodies, told)
    return (tuple(_stage(stage, said)), tuple(said.record(r) for r in context)), names


def _stage(stage: Stage, said: _Said) -> Iterator[Any]:
    if isinstance(stage, Together):
        yield from (_node(n, said) for n in stage.nodes)
        return
    yield stage.length, stage.alone, stage.lowering
    yield tuple(_node(n, said) for n in stage.nodes)
    yield from (tuple(_stage(s, said)) for s in stage.stages)


def _node(node: Node, said: _Said) -> Any:
    return said.record(node[0]), node[1]


UNSAID = {"span", "spans", "name", "level"}  # where something stands, and what it is called for people


_SAID: dict[type, tuple[str, ...]] = {}


def _said_of(kind: type) -> tuple[str, ...]:
    if kind not in _SAID:
        _SAID[kind] = tuple(f.name for f in fields(kind) if f.name not in UNSAID)
    return _SAID[kind]


class _Said:
    """Records as nested tuples: names of the program as tokens, names inside a body as they are, as these are the same
    wherever the body stands."""

    def __init__(self, names: Names, bodies: Mapping[str, Body], told: dict[int, Any]) -> None:
        self.names, self.bodies, self.told = names, bodies, told
        self.records: dict[int, Any] = {}

    def record(self, record: Any) -> Any:
        if id(record) not in self.records:
            self.records[id(record)] = self._fields(record, OUTER[type(record)])
        return self.records[id(record)]

    def _fields(self, record: Any, named: Collection[str]) -> Any:
        if isinstance(record, Stream):
            return self._stream(record, named)
        said = ((n, getattr(record, n)) for n in _said_of(type(record)))
        return type(record).__name__, *(self._named(v) if n in named else self._value(v) for n, v in said)

    def _stream(self, stream: Stream, named: Collection[str]) -> Any:
        """Of a stream, which there are most of, little has to be told otherwise."""
        told = (self._named(getattr(stream, n)) if n in named else getattr(stream, n) for n in OUTER[Stream])
        return ("Stream", *told, self._value(stream.attrs), _rest(stream))

    def _named(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._named(v) for v in value)
        return self.names.token(value) if isinstance(value, str) and value else value

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, tuple):
            if len(value) == 2 and value[0] == "serves":
                return "serves", self._named(value[1])
            return tuple(self._value(v) for v in value)
        if isinstance(value, Body):
            return self._body(value)
        if isinstance(value, Rule):
            told = ((self._named(m), leaf, self._rule(self.bodies[b])) for m, leaf, b in value.bodies)
            return value.name, tuple(told), self._named(value.args)
        if isinstance(value, Leaf):
            return value.name, value.shape, value.init
        return self._fields(value, ()) if is_dataclass(value) else value

    def _rule(self, body: Body) -> Any:
        """A rule's body, which names nothing outside of it."""
        if id(body) not in self.told:
            self.told[id(body)] = self._body(body)
        return self.told[id(body)]

    def _body(self, body: Body) -> Any:
        own = {r.id for r in body.records if isinstance(r, Memory)}
        ports = tuple((p.id, p.shape, p.heads, p.dtype, self._named(p.stream)) for p in body.inputs)
        records = tuple(
            self._fields(r, {"memory"} if isinstance(r, Stream) and r.memory not in own else ()) for r in body.records
        )
        return ports, records, body.results, tuple((self._named(m), leaf, x) for m, leaf, x in body.keys)


OUTER: dict[type, tuple[str, ...]] = {  # the fields that name records of the program
    Memory: ("id", "reset_when"),
    Stream: ("id", "args", "memory"),
    Objective: ("id", "memories", "pair", "over_weight", "weights", "when"),
}
_plain = (n for n in _said_of(Stream) if n not in (*OUTER[Stream], "attrs", "clock"))
_rest = attrgetter(*_plain, "clock.count", "clock.unit")
