"""What belongs together in two programs: inputs and outputs by their place, parameters by name, else by order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nldsl.graph import LevelGraph, Port
from nldsl.parameters import Parameter, learned_parameters

Shape = tuple[int, ...]


class UnlikeError(ValueError):
    """Two programs that can't be compared: a sentence that says why and, where there is one, the way out."""


def tied(first: LevelGraph, second: LevelGraph, pairs: Mapping[str, str] | None = None) -> dict[str, str]:
    """The second program's name of every parameter of the first.

    Those of `pairs` first, then equal names of equal shapes; of the rest, those of one shape are paired in their order.
    Raises UnlikeError if a parameter stays alone, or if inputs or outputs don't fit.
    """
    _same("is over", "inputs", first, second, first.tick.inputs, second.tick.inputs)
    _same("returns", "outputs", first, second, first.outs, second.outs)
    left, right = learned_parameters(first), learned_parameters(second)
    found = _asked_for(first, second, left, right, pairs or {})
    for name, parameter in left.items():
        free = name not in found and name in right and name not in found.values()
        if free and shape_of(parameter) == shape_of(right[name]):
            found[name] = name
    mine = sorted((p for n, p in left.items() if n not in found), key=shape_of)
    yours = sorted((p for n, p in right.items() if n not in found.values()), key=shape_of)
    if list(map(shape_of, mine)) != list(map(shape_of, yours)):
        raise UnlikeError(_alone(first, second, mine, yours))
    rest = {a.name: b.name for a, b in zip(mine, yours, strict=True)}
    return {name: found.get(name) or rest[name] for name in left}


def _same(verb: str, what: str, first: LevelGraph, second: LevelGraph, a: Sequence[Port], b: Sequence[Port]) -> None:
    if list(map(_kind, a)) != list(map(_kind, b)):
        raise UnlikeError(
            f"`{first.program}` {verb} {_listed(a)} and `{second.program}` {verb} {_listed(b)}: "
            f"the {what} must have the same shapes in the same order"
        )


def _kind(port: Port) -> tuple[str, Shape]:
    return port.dtype, axes(port)


def axes(port: Port) -> Shape:
    """The axes of one tick's value, heads included."""
    return tuple(map(int, (port.heads, *port.shape) if port.heads else port.shape))


def _listed(ports: Iterable[Port]) -> str:
    said = [list(axes(p)) if p.dtype == "real" else " ".join([p.dtype, *map(str, axes(p))]) for p in ports]
    return ", ".join(f"`{one}`" for one in said) or "nothing"


def shape_of(parameter: Parameter) -> Shape:
    heads = (parameter.heads,) if parameter.heads else ()
    return tuple(map(int, heads + parameter.leaf.shape))


def _asked_for(
    first: LevelGraph,
    second: LevelGraph,
    left: Mapping[str, Parameter],
    right: Mapping[str, Parameter],
    pairs: Mapping[str, str],
) -> dict[str, str]:
    """The pairs that were asked for, if they are pairs."""
    for a, b in pairs.items():
        for graph, known, name in ((first, left, a), (second, right, b)):
            if name not in known:
                has = ", ".join(f"`{n}`" for n in known) or "none"
                raise UnlikeError(f"`{graph.program}` has no parameter `{name}`; it has {has}")
        if shape_of(left[a]) != shape_of(right[b]):
            raise UnlikeError(f"{_named(left[a])} and {_named(right[b])} have different shapes and can't be a pair")
    if len(set(pairs.values())) < len(pairs):
        raise UnlikeError(f"a parameter of `{second.program}` is in two pairs")
    return dict(pairs)


def _named(parameter: Parameter) -> str:
    return f"`{parameter.name}` {list(shape_of(parameter))}"


def _alone(first: LevelGraph, second: LevelGraph, mine: Sequence[Parameter], yours: Sequence[Parameter]) -> str:
    parts = [
        f"of `{graph.program}` " + ", ".join(map(_named, rest))
        for graph, rest in ((first, mine), (second, yours))
        if rest
    ]
    said = f"these parameters have no partner: {'; '.join(parts)}"
    fitting = [f"--pair {a.name}={b.name}" for a in mine for b in yours if shape_of(a) == shape_of(b)]
    if fitting:
        return f"{said}. Name the pairs, such as `{fitting[0]}`"
    return f"{said}. Only programs with the same parameters can be the same function of them"
