"""Names, over a whole text before anything is instantiated: also in definitions that no program uses.

A body runs from top to bottom, so a name means what was bound last above it: a hyper-parameter, a port, a stream, a
memory, state or parameter, a loop's variable, or else a definition, an import, the prelude's or a primitive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.checks import levels, order
from nldsl.checks.order import Binding, names_of
from nldsl.diagnostics import Diagnostic, Findings, nearest
from nldsl.modules import ModuleScope
from nldsl.spans import Span
from nldsl.syntax import tree

INITS = {"normal": "`normal(std)`", "uniform": "`uniform(low, high)`", "zeros": "`zeros`", "ones": "`ones`"}
OWN = ("self", "loss", "tick")  # names with a meaning of their own


def check(module: ModuleScope, findings: Findings) -> None:
    """Report every name of a text, and of the program's own modules that it imports, that means nothing where it
    stands. Not where the syntax is wrong: what was left out there would be missed here."""
    if any(d.code < "NL100" for d in findings.errors):
        return
    for own in order.own_modules(module):
        _text(own, findings)
    levels.unused_names(module, findings)


def _text(module: ModuleScope, findings: Findings) -> None:
    uses: dict[str, list[tree.Name]] = {}
    for definition in module.module.definitions:
        scope = _Body(module, definition, findings)
        scope.run()
        if module.definitions.get(definition.name.id) is definition:
            uses[definition.name.id] = scope.applied
    findings.extend(order.rings(module.definitions, uses))


class _Body:
    """One definition. known: what each name is, as far as the text has been read, and where it was bound."""

    def __init__(self, module: ModuleScope, definition: tree.Definition, findings: Findings) -> None:
        self.module, self.definition, self.findings = module, definition, findings
        self.known: dict[str, tuple[str, Span]] = {}
        self.later: dict[str, list[Binding]] = {}
        for binding in order.bindings(definition):
            self.later.setdefault(binding.name, []).append(binding)
        self.applied: list[tree.Name] = []
        self.loops: tuple[tree.Statement, ...] = ()
        asked = ([i.alias or i.name for i in m.names] or [m.alias or m.module[-1]] for m in module.module.imports)
        self.imported = {name for names in asked for name in names}  # where an import failed, that has been said

    def report(
        self, code: str, message: str, span: Span, hint: str = "", second: tuple[Span, str] | None = None,
        alternatives: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.findings.add(Diagnostic(code, message, span, hint=hint, second=second, alternatives=alternatives))

    def run(self) -> None:
        self.own(self.definition.name.id, self.definition.name.span)
        for parameter in self.definition.parameters:
            self.uses(parameter.default)
            self.declare(parameter.name, "hyper-parameter", parameter.span)
        for port in self.definition.ports:
            self.declare(port.name, "stream", port.span)
            self.sizes(port.shape)
        self.block(self.definition.body)
        for result in self.definition.results:
            self.sizes(result)

    def own(self, name: str, span: Span) -> bool:
        if name in OWN:
            self.report("NL102", f"`{name}` has a meaning of its own and can't be bound", span)
        return name in OWN

    def declare(self, name: str, what: str, span: Span) -> None:
        """Bind a name of the head, which is said once."""
        self.own(name, span)
        if name in self.known:
            first, place = self.known[name]
            twice = f"the {what} `{name}` is declared twice" if first == what else f"`{name}` is a {first} and a {what}"
            self.report("NL102", twice, span, "rename one of them", (place, "the first"))
        else:
            self.known[name] = (what, span)

    def sizes(self, shape: tree.List | tree.Name | None) -> None:
        """A shape of the head: a name alone that means nothing yet is bound to the size that comes."""
        for item in shape.items if isinstance(shape, tree.List) else ():
            if isinstance(item, tree.Name):
                self.known.setdefault(item.id, ("size", item.span))
            else:
                self.uses(item)

    # Uses

    def uses(self, *exprs: tree.Expr | None, also: tuple[str, ...] = (), of: tree.Statement | None = None) -> None:
        for expr in exprs:
            for name in names_of(expr) if expr is not None else ():
                if name.id not in also:
                    self.use(name, of)

    def use(self, name: tree.Name, of: tree.Statement | None = None) -> None:
        if name.id in self.known:
            return
        if self.module.lookup(name.id) is not None:
            if name.id in self.module.definitions:
                self.applied.append(name)
        elif name.id in self.later:
            self.early(name, of)
        elif name.id.partition(".")[0] in self.imported - set(self.module.whole):
            self.findings.known(name.span)
        elif name.id == "loss":
            why = "a model assigns it, and `minimizing loss` learns from it"
            self.report("NL111", f"`loss` is not a stream to read: {why}", name.span)
        else:
            self.report("NL101", f"there is no `{name.id}` here", name.span, nearest(name.id, self.visible(name.id)))

    def visible(self, name: str) -> Iterator[str]:
        head, dot, _ = name.partition(".")
        if dot and head in self.module.whole:
            yield from (f"{head}.{n}" for n in self.module.whole[head].definitions)
            return
        yield from self.known
        yield from self.module.names()

    def early(self, name: tree.Name, of: tree.Statement | None) -> None:
        """A name used above what binds it: a cycle, if that needs what is being bound here."""
        binding = self.later[name.id][0]
        defined = (binding.span, "defined here")
        looped = any(loop in binding.loops for loop in self.loops)
        path = order.cycle(of, binding, self.later) if isinstance(of, tree.Assign) and not looped else ()
        if path:
            shown = " -> ".join(f"`{n}`" for n in path)
            hint = "keep the value of the tick before in a `state`"
            message = f"`{path[0]}` depends on itself within one tick: {shown}"
            self.report("NL501", message, name.span, hint, defined if len(path) > 2 else None)
        else:
            hint = "a tick runs from top to bottom: move the definition up"
            hint = "give it a first value above the loop" if looped else hint
            self.report("NL108", f"`{name.id}` is used above its definition", name.span, hint, defined)

    # Statements

    def block(self, statements: Iterable[tree.Statement]) -> None:
        declared: dict[str, Span] = {}
        for statement in statements:
            for name, span in order.declared(statement):
                if name in declared:
                    self.report("NL102", f"`{name}` is declared twice", span, "rename one of them",
                                (declared[name], "the first"))  # fmt: skip
                declared.setdefault(name, span)
            self.statement(statement)

    def statement(self, statement: tree.Statement) -> None:
        match statement:
            case tree.Assign():
                self.uses(statement.value, of=statement)
                self.assign(statement)
            case tree.MemoryDecl():
                self.uses(statement.net, *(t.heads for t in statement.targets))
                self.uses(statement.start, also=("start",))
                self.reset(statement.reset)
                self.bind("memory", order.declared(statement))
            case tree.StateDecl():
                self.uses(statement.target.heads, statement.shape, statement.start)
                self.reset(statement.reset)
                self.bind("state", order.declared(statement))
            case tree.ParamDecl():
                self.uses(statement.shape)
                self.init(statement.init)
                self.bind("parameter", order.declared(statement))
            case tree.Write():
                self.use(statement.target)
                self.uses(statement.value, _count(statement.every))
            case tree.Learn():
                self.learn(statement)
            case tree.LevelDecl():
                self.uses(statement.every.count)
            case tree.Repeat():
                self.uses(statement.count)
                self.loop(statement)
            case tree.For():
                self.uses(statement.values)
                self.known[statement.variable.id] = ("variable", statement.variable.span)
                self.loop(statement)
            case tree.If():
                self.uses(statement.condition)
                self.block(statement.then)
                self.block(statement.otherwise)
            case tree.Return():
                self.uses(*statement.values)

    def loop(self, statement: tree.Repeat | tree.For) -> None:
        outside = self.loops
        self.loops = (*outside, statement)
        self.block(statement.body)
        self.loops = outside

    def bind(self, what: str, names: Iterable[tuple[str, Span]]) -> None:
        for name, span in names:
            self.own(name, span)
        self.known.update({name: (what, span) for name, span in names})

    def assign(self, statement: tree.Assign) -> None:
        for name in statement.names if [n.id for n in statement.names] != ["loss"] else ():
            what, span = self.known.get(name.id, ("", name.span))
            if self.own(name.id, name.span):
                continue
            if what in ("memory", "state"):
                self.report("NL102", f"`{name.id}` is a {what}; a stream needs another name", name.span,
                            f"`{name.id} <- …` writes the {what}", (span, "declared here"))  # fmt: skip
            else:
                self.known[name.id] = ("stream", name.span)

    def init(self, expr: tree.Expr) -> None:
        if isinstance(expr, tree.Call) and isinstance(expr.function, tree.Name):
            name = expr.function
            if name.id not in ("normal", "uniform"):
                self.report("NL101", f"there is no start `{name.id}`", name.span, nearest(name.id, INITS),
                            alternatives=tuple(INITS.values()))  # fmt: skip
            self.uses(*(a.value for a in expr.arguments))
        else:
            self.uses(expr)

    def reset(self, clause: tree.Reset | None) -> None:
        if clause is not None:
            self.uses(_count(clause.every), clause.when)

    def learn(self, learn: tree.Learn) -> None:
        for target in learn.targets:
            if target.id in self.later and target.id not in self.known:
                self.early(target, None)
            elif target.id not in self.known:
                hint = nearest(target.id, [n for n, (what, _) in self.known.items() if what == "memory"])
                self.report("NL101", f"there is no memory `{target.id}` here", target.span, hint)
        objective = learn.minimizing
        if not (isinstance(objective, tree.Name) and objective.id == "loss"):
            self.uses(objective)
        self.uses(learn.key, learn.value, learn.retaining, learn.by, learn.weighted, learn.times, learn.when)
        self.uses(_count(learn.every), _count(learn.through), _count(learn.hold.length if learn.hold else None))
        if learn.over is not None:
            self.uses(learn.over.length.count, learn.over.weight)


def _count(quantity: tree.Quantity | None) -> tree.Expr | None:
    return quantity.count if quantity is not None else None
