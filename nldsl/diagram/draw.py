"""The level diagram: levels as bands from fastest to slowest, the memories in them, and what passes between.

`dot_source` writes it in Graphviz' language. `draw` lays it out with the program `dot` where there is one, else
with the Graphviz that the package pygraphviz brings along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nldsl.diagram.picture import picture
from nldsl.diagram.source import written
from nldsl.graph import LevelGraph


class DrawError(Exception):
    """A picture that cannot be drawn; its text is one sentence for the user."""


def dot_source(graph: LevelGraph) -> str:
    """The level diagram in Graphviz' language, the same for equal graphs."""
    return written(picture(graph))


def svg(graph: LevelGraph) -> str:
    """The level diagram as SVG. Raises DrawError."""
    return _laid_out(dot_source(graph), "svg").decode("utf-8")


def draw(graph: LevelGraph, path: str | Path) -> None:
    """Write the level diagram to a .svg, .png or .dot file, whole or not at all. Raises DrawError."""
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in ("svg", "png", "dot"):
        raise DrawError(f"A picture is an .svg, .png or .dot file, and `{path}` is none of them.")
    if not path.parent.is_dir():
        raise DrawError(f"There is no folder `{path.parent}` to write `{path.name}` into.")
    source = dot_source(graph)
    content = source.encode() if form == "dot" else _laid_out(source, form)
    _write(path, content)


def _laid_out(source: str, form: str) -> bytes:
    program = shutil.which("dot")
    if program:
        done = subprocess.run([program, f"-T{form}"], input=source.encode(), capture_output=True, check=False)
        if done.returncode or not done.stdout:
            reason = " ".join(done.stderr.decode(errors="replace").split()) or f"it exited with {done.returncode}"
            raise DrawError(f"Graphviz' dot could not lay out the picture: {reason}")
        return done.stdout
    try:
        import pygraphviz
    except ImportError as error:
        raise DrawError(
            f'Drawing .{form} needs Graphviz: install it with `pip install "nldsl[draw]"`, or install Graphviz\' '
            "`dot`; a .dot file can be written without it."
        ) from error
    try:
        return bytes(pygraphviz.AGraph(string=source).draw(format=form, prog="dot"))
    except (OSError, ValueError, RuntimeError) as error:
        raise DrawError(f"pygraphviz could not lay out the picture: {error}") from error


def _write(path: Path, content: bytes) -> None:
    """Beside its place first, then moved there in one step."""
    part = ""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)  # as open() would have made it
        os.replace(part, path)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        raise DrawError(f"`{path}` could not be written: {error.strerror or error}.") from error
