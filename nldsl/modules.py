"""Modules: finds, parses and links the texts a program is made of. text -> ModuleScope."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nldsl.diagnostics import Diagnostic, Findings, nearest
from nldsl.instantiate.values import Builtin, Function, Namespace, Value
from nldsl.primitives import INSPECTORS, PRIMITIVES
from nldsl.spans import NOWHERE, Span
from nldsl.syntax import tree
from nldsl.syntax.parse import read
from nldsl.syntax.trees import parsed

# Names that mean something of their own in every body.
SPECIAL = ("self", "tick", "attention", *INSPECTORS)


@dataclass(eq=False)
class ModuleScope:
    """One text: its definitions, what it imports, and behind both the prelude and the primitives."""

    name: str
    file: str
    text: str
    module: tree.Module
    definitions: dict[str, tree.Definition] = field(default_factory=dict)
    imported: dict[str, tuple[ModuleScope, str]] = field(default_factory=dict)
    whole: dict[str, ModuleScope] = field(default_factory=dict)
    linker: Linker | None = None

    @property
    def prelude(self) -> ModuleScope | None:
        shared = self.linker.prelude if self.linker else None
        return None if shared is self else shared

    def lookup(self, name: str) -> Value | None:
        head, _, rest = name.partition(".")
        if rest and head in self.whole:
            return self.whole[head].lookup(rest)
        if name in self.definitions:
            return Function(self.definitions[name], self)
        if name in self.imported:
            module, original = self.imported[name]
            return module.lookup(original)
        if name in self.whole:
            return Namespace(self.whole[name])
        if self.prelude is not None and (found := self.prelude.exported(name)) is not None:
            return found
        return Builtin(name) if name in PRIMITIVES or name in SPECIAL else None

    def exported(self, name: str) -> Value | None:
        """What another module gets when it asks for this name."""
        return self.lookup(name) if name in self.definitions or name in self.imported else None

    def names(self) -> Iterator[str]:
        yield from self.definitions
        yield from self.imported
        yield from self.whole
        if self.prelude is not None:
            yield from self.prelude.definitions
            yield from self.prelude.imported
        yield from PRIMITIVES
        yield from SPECIAL


def library() -> Path:
    """The folder of the standard library, installed or in a checkout."""
    spec = importlib.util.find_spec("nldsl.stdlib")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else Path(__file__).parent.parent / "stdlib"


class Linker:
    """Loads modules, each once. `sources` keeps every text read, for showing diagnostics."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.sources: dict[str, str] = {}
        self._loaded: dict[Path, ModuleScope | None] = {}
        self._open: list[tuple[str, Path]] = []
        self.prelude: ModuleScope | None = None
        self.prelude = self._at(library() / "prelude.nl", "std.prelude", NOWHERE)

    def file(self, path: Path, name: str = "") -> ModuleScope | None:
        text, problems = read(path)
        self.findings.extend(problems)
        return None if problems else self.link(text, str(path), path, name, keep=True)

    def link(self, text: str, file: str, path: Path, name: str = "", keep: bool = False) -> ModuleScope | None:
        self.sources[file] = text
        module, problems = parsed(text, file, keep)
        self.findings.extend(problems)
        scope = ModuleScope(name or path.stem, file, text, module, linker=self)
        key = path.resolve()
        self._loaded[key] = scope
        self._open.append((scope.name, key))
        for definition in module.definitions:
            first = scope.definitions.setdefault(definition.name.id, definition)
            if first is not definition:
                self._twice(definition.name, first.name.span)
        for statement in module.imports:
            self._import(scope, statement, path.parent)
        self._open.pop()
        return scope

    def _import(self, scope: ModuleScope, statement: tree.Import, folder: Path) -> None:
        dotted = ".".join(statement.module)
        path = self._find(statement, folder)
        module = self._at(path, dotted, statement.span) if path else None
        if module is None:
            return
        if not statement.names:
            scope.whole[statement.alias or dotted] = module
            scope.whole.setdefault(statement.alias or statement.module[-1], module)
        for item in statement.names:
            local = item.alias or item.name
            if module.exported(item.name) is None and item.name not in module.definitions:
                own = [*module.definitions, *module.imported]
                self._report(
                    "NL106",
                    f"`{dotted}` defines no `{item.name}`",
                    item.span,
                    hint=nearest(item.name, own),
                    alternatives=tuple(f"`{n}`" for n in own),
                )
            elif local in scope.definitions or local in scope.imported:
                earlier = scope.definitions.get(local)
                self._twice(tree.Name(local, span=item.span), earlier.name.span if earlier else NOWHERE)
            else:
                scope.imported[local] = (module, item.name)

    def _find(self, statement: tree.Import, folder: Path) -> Path | None:
        parts = statement.module
        if any(not part or part == ".." for part in parts):
            self._report(
                "NL104", "an import names a module beside the program or in the library, never a path", statement.span
            )
            return None
        tried = [folder.joinpath(*parts).with_suffix(".nl")]
        if parts[0] == "std":
            tried.append(library().joinpath(*parts[1:]).with_suffix(".nl"))
        for path in tried:
            if path.is_file():
                return path
        shelf = [f"std.{p.stem}" for p in sorted(library().glob("*.nl")) if p.stem != "prelude"]
        beside = [p.stem for p in sorted(folder.glob("*.nl"))] if folder.is_dir() else []
        dotted = ".".join(parts)
        self._report(
            "NL103",
            f"there is no module `{dotted}`",
            statement.span,
            hint=nearest(dotted, shelf + beside),
            alternatives=tuple(f"`{n}`" for n in shelf),
        )
        return None

    def _at(self, path: Path, name: str, span: Span) -> ModuleScope | None:
        key = path.resolve()
        opened = [p for _, p in self._open]
        if key in opened:
            cycle = [n for n, _ in self._open[opened.index(key) :]] + [name]
            self._report(
                "NL105",
                "these modules import one another: " + " -> ".join(f"`{n}`" for n in cycle),
                span,
                hint="move what both need into a third module",
            )
            return None
        if key not in self._loaded:
            self._loaded[key] = None
            self._loaded[key] = self.file(path, name)
        return self._loaded[key]

    def _twice(self, name: tree.Name, first: Span) -> None:
        self.findings.add(
            Diagnostic(
                "NL102",
                f"`{name.id}` is defined twice",
                name.span,
                second=(first, "first defined here"),
                hint="rename one of them",
            )
        )

    def _report(self, code: str, message: str, span: Span, hint: str = "", alternatives: tuple[str, ...] = ()) -> None:
        self.findings.add(Diagnostic(code, message, span, hint=hint, alternatives=alternatives))
