"""Writes the chapters on the standard library: each definition's text, its levels, and their picture.

    python docs/chapters.py            writes docs/library/*.md and *.svg

The texts are the library's own files, so a chapter can't say anything else than they do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import nldsl
from nldsl.diagram.draw import svg
from nldsl.listing import graph_of
from nldsl.modules import library
from nldsl.syntax import tree
from nldsl.syntax.parse import parse, read

FOLDER = Path(__file__).resolve().parent / "library"
HEAD = """# {title}

`std.{stem}`, generated from [`stdlib/{stem}.nl`](../../stdlib/{stem}.nl) by `make docs`.
"""
PROGRAM = """
## {name}

{doc}
```
{text}
```

Its levels{sizes}:

```
{levels}
```

![The levels of {name}]({picture})
"""
OTHER = """
## {name}

{doc}
```
{text}
```
"""


def stems() -> list[str]:
    return [p.stem for p in sorted(library().glob("*.nl")) if p.stem != "prelude"]


def chapter(stem: str) -> str:
    """The chapter of one file of the library, as Markdown."""
    path = library() / f"{stem}.nl"
    text, problems = read(path)
    assert not problems, problems
    module, _ = parse(text, str(path))
    parts = [HEAD.format(stem=stem, title=stem.replace("_", " ").capitalize())]
    for definition in module.definitions:
        own = source(text, definition)
        if definition.kind not in ("block", "model"):
            parts.append(OTHER.format(name=definition.name.id, doc=prose(definition.doc or ""), text=own))
            continue
        graph, sizes = graph_of(f"std.{stem}:{definition.name.id}")
        said = ", ".join(f"{n} = {v}" for n, v in sizes.items())
        parts.append(
            PROGRAM.format(
                name=definition.name.id,
                doc=prose(definition.doc or ""),
                text=own,
                sizes=f" ({said})" if said else "",
                levels=nldsl.level_table(graph),
                picture=picture(stem, definition.name.id),
            )
        )
    return "".join(parts)


def prose(doc: str) -> str:
    """A doc string as Markdown: its indented lines are formulas, and stay lines."""
    parts: list[str] = []
    for formula, lines in groupby(doc.strip().splitlines(), key=lambda line: line.startswith("  ")):
        said = "\n".join(line.strip() for line in lines)
        parts.append(f"```\n{said}\n```\n" if formula else f"{said}\n")
    return "".join(f"{part}\n" for part in parts)


def source(text: str, definition: tree.Definition) -> str:
    """The lines of a definition, its doc string first."""
    lines = text.splitlines()
    first, last = definition.span.line - 1, definition.span.end_line
    return "\n".join(lines[first:last])


def picture(stem: str, name: str) -> str:
    return f"{stem}.{name}.svg"


def contents() -> Iterator[tuple[str, str]]:
    """(file name, content) of everything that is generated."""
    for stem in stems():
        yield f"{stem}.md", chapter(stem)


def pictures() -> Iterator[tuple[str, str]]:
    for stem in stems():
        module, _ = parse(read(library() / f"{stem}.nl")[0], stem)
        for definition in module.definitions:
            if definition.kind in ("block", "model"):
                yield picture(stem, definition.name.id), svg(graph_of(f"std.{stem}:{definition.name.id}")[0])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in (*FOLDER.glob("*.md"), *FOLDER.glob("*.svg")):
        old.unlink()
    for name, content in (*contents(), *pictures()):
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(f"docs/library/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
