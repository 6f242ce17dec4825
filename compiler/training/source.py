"""A program as a checkpoint keeps it: its texts and hyper-parameters, enough to build it again anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nldsl.compiler.training.errors import TrainingError

from nldsl.graph import LevelGraph
from nldsl.meaning import meaning
from nldsl.modules import library
from nldsl.program import Result, front_end, split


@dataclass(frozen=True)
class Source:
    """program: its name as it was given, `hope.nl:Hope`. entry: the same beside `texts`, which are the user's own
    modules by their path from the program's folder; the library is not among them. hyper: what was set. meaning: a
    digest of the level graph, which no comment or name of a file changes."""

    program: str
    entry: str
    texts: Mapping[str, str]
    hyper: Mapping[str, Any]
    meaning: str

    def graph(self, version: str) -> LevelGraph:
        """The level graph, built anew. version: of the nldsl that wrote this. Raises TrainingError where this nldsl
        takes the texts to mean something else."""
        import nldsl

        graph = self._built()
        if graph is None or meaning(graph) != self.meaning:
            what = "means something else" if graph else "is wrong"
            other = f" and this is {nldsl.__version__}" if nldsl.__version__ != version else ""
            raise TrainingError(
                f"`{self.program}` {what} to this nldsl than to the one that trained it; "
                f"that was nldsl {version}{other}, so install the same one"
            )
        return graph

    def _built(self) -> LevelGraph | None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in self.texts.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            place = f"{folder}/{self.entry}" if self.texts else self.entry
            result = front_end(place, self.hyper)
        return None if result.findings.errors else result.graph


def source_of(program: str, hyper: Mapping[str, Any], result: Result) -> Source:
    """The source of a program that the front end has read and found right."""
    assert result.graph is not None
    place, colon, name = split(program)
    own, shelf = Path(place).resolve(), library().resolve()
    texts = {}
    for file, text in result.sources.items():
        path = Path(file).resolve()
        if not path.is_relative_to(shelf):
            texts[path.relative_to(own.parent).as_posix()] = text
    if texts:
        place = own.name
    elif own.is_relative_to(shelf):  # a file of the library, named by its path
        place = ".".join(("std", *own.relative_to(shelf).with_suffix("").parts))
    return Source(program, f"{place}{colon}{name}", texts, dict(hyper), meaning(result.graph))
