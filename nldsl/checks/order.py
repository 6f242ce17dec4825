"""In which order things are bound and applied: what binds a name, cycles within a tick, definitions in a ring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

from nldsl.diagnostics import Diagnostic
from nldsl.modules import ModuleScope, library
from nldsl.spans import Span
from nldsl.syntax import tree


@dataclass(frozen=True, eq=False)
class Binding:
    """A place that binds a name: the statement, and the loops around it."""

    name: str
    span: Span
    statement: tree.Node
    loops: tuple[tree.Statement, ...] = ()


def names_of(expr: tree.Expr) -> Iterator[tree.Name]:
    """Every name that an expression uses, from left to right."""
    stack: list[tree.Expr] = [expr]
    while stack:
        match stack.pop():
            case tree.Name() as name:
                yield name
            case tree.List(items=items):
                stack += reversed(items)
            case tree.Unary(operand=operand):
                stack.append(operand)
            case tree.Binary(left=left, right=right):
                stack += (right, left)
            case tree.Call(function=function, arguments=arguments):
                stack += (*(a.value for a in reversed(arguments)), function)
            case tree.Index(value=value, index=index):
                stack += (index, value)
            case tree.Pipe(value=value, function=function):
                stack += (function, value)


def own_modules(module: ModuleScope) -> Iterator[ModuleScope]:
    """A module and those it imports, the library's aside."""
    shelf = library() if module.imported or module.whole else Path()
    reached = [module]
    for scope in reached:
        if scope is module or not Path(scope.file).is_relative_to(shelf):
            yield scope
            others = (*(m for m, _ in scope.imported.values()), *scope.whole.values())
            reached += [m for m in dict.fromkeys(others) if m not in reached]


def declared(statement: tree.Statement) -> list[tuple[str, Span]]:
    """The memories, states and parameters that a statement declares."""
    match statement:
        case tree.MemoryDecl():
            return [(t.name, t.span) for t in statement.targets]
        case tree.StateDecl():
            return [(statement.target.name, statement.target.span)]
        case tree.ParamDecl():
            return [(statement.name, statement.span)]
    return []


def bindings(definition: tree.Definition) -> Iterator[Binding]:
    """Everything that binds a name in a definition, from top to bottom."""
    for parameter in definition.parameters:
        yield Binding(parameter.name, parameter.span, parameter)
    todo: list[tuple[tree.Statement, tuple[tree.Statement, ...]]] = [(s, ()) for s in reversed(definition.body)]
    while todo:
        statement, loops = todo.pop()
        for name, span in declared(statement):
            yield Binding(name, span, statement, loops)
        match statement:
            case tree.Assign():
                for bound in statement.names:
                    if bound.id not in ("self", "loss", "tick"):
                        yield Binding(bound.id, bound.span, statement, loops)
            case tree.If():
                todo += [(s, loops) for s in reversed((*statement.then, *statement.otherwise))]
            case tree.Repeat():
                todo += [(s, (*loops, statement)) for s in reversed(statement.body)]
            case tree.For():
                yield Binding(statement.variable.id, statement.variable.span, statement, loops)
                todo += [(s, (*loops, statement)) for s in reversed(statement.body)]


def cycle(use: tree.Assign, binding: Binding, bound: Mapping[str, list[Binding]]) -> tuple[str, ...]:
    """The way from what a statement binds, through a name it uses, back to it; empty where there is none."""
    goals = {n.id for n in use.names}
    before: dict[str, str] = {binding.name: ""}
    queue = deque([binding])
    while queue:
        here = queue.popleft()
        if here.name in goals:
            path = [here.name]
            while before[path[-1]]:
                path.append(before[path[-1]])
            return (here.name, *reversed(path))
        if isinstance(here.statement, tree.Assign):
            for name in names_of(here.statement.value):
                if name.id not in before and name.id in bound:
                    before[name.id] = here.name
                    queue.append(bound[name.id][0])
    return ()


def rings(definitions: Mapping[str, tree.Definition], uses: Mapping[str, list[tree.Name]]) -> Iterator[Diagnostic]:
    """Definitions that apply themselves, directly or through one another."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(definitions)
    graph.add_edges_from((name, use.id) for name, names in uses.items() for use in names)
    for found in nx.strongly_connected_components(graph):
        first = next(n for n in definitions if n in found)
        ways = [nx.shortest_path(graph, n, first) for n in graph.successors(first) if n in found]
        if not ways:
            continue
        ring = [first, *min(ways, key=len)]
        use = next(u for u in uses[first] if u.id == ring[1])
        shown = " -> ".join(f"`{n}`" for n in ring)
        yield Diagnostic("NL112", f"a definition can't apply itself: {shown}", use.span, hint="use `repeat` or `for`")
