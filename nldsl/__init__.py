"""nldsl: the language and compiler of nested learners.

    graph = nldsl.load("hope.nl:Hope", dim=256)     a checked level graph
    module = nldsl.compile("hope.nl", dim=256)      a PyTorch module
    nldsl.check("hope.nl")                          what is wrong with it, as diagnostics
    nldsl.level_table(graph)                        its levels, fastest first
    nldsl.draw(graph, "hope.svg")                   their picture

Nothing here imports torch. `nldsl.compiler.reference` runs a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nldsl.compiler.module import CompiledModule as CompiledModule
    from nldsl.diagnostics import Diagnostic as Diagnostic
    from nldsl.diagnostics import ProgramError as ProgramError
    from nldsl.graph import LevelGraph as LevelGraph

__version__ = "0.1.0"
__all__ = [
    "CompiledModule",
    "Diagnostic",
    "LevelGraph",
    "ProgramError",
    "check",
    "compile",
    "compile_text",
    "draw",
    "level_table",
    "load",
    "load_text",
]


def check(program: str, **hyper: Any) -> list[Diagnostic]:
    """Everything found in a program, errors and warnings, in the order of the text."""
    from nldsl.program import front_end

    return front_end(str(program), hyper).findings.sorted()


def load(program: str, as_model: bool = False, **hyper: Any) -> LevelGraph:
    """The level graph of `FILE.nl`, `FILE.nl:Name` or `std.hope:Hope`. as_model: of a model of one layer around a block
    (embedding, block, head). Raises ProgramError if it is wrong."""
    return _checked(str(program), hyper, None, as_model)


def load_text(text: str, name: str | None = None, as_model: bool = False, **hyper: Any) -> LevelGraph:
    """The level graph of a program given as text. Raises ProgramError if it is wrong."""
    return _checked(f"<text>:{name}" if name else "<text>", hyper, text, as_model)


def compile(program: str, **options: Any) -> CompiledModule:
    """The `nn.Module` of a program. Options: seed, dtype (torch.float32), device ("cpu"; on "meta" nothing is drawn and
    nothing takes room), only ("recurrence": token by token), as_model (True: of a model of one layer around a block),
    memory_budget (the bytes that training may keep of chunks, where there are any); all others are hyper-parameters.
    Raises ProgramError if the program is wrong."""
    own, hyper = _options(options)
    return _compiled(load(program, **hyper), own)


def compile_text(text: str, name: str | None = None, **options: Any) -> CompiledModule:
    """The same for a program given as text."""
    own, hyper = _options(options)
    return _compiled(load_text(text, name, **hyper), own)


def _options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {n: v for n, v in options.items() if n in ("seed", "dtype", "only", "device", "memory_budget")}
    return own, {n: v for n, v in options.items() if n not in own}


def _compiled(graph: LevelGraph, options: dict[str, Any]) -> CompiledModule:
    from nldsl.compiler import compiled

    return compiled(graph, **options)


def level_table(graph: LevelGraph) -> Any:
    """The levels of a graph, fastest first: period, members, parameters, state, what feeds it, how far back its
    gradient reaches. Its `str` is a table."""
    from nldsl.table import level_table as table

    return table(graph)


def draw(graph: LevelGraph, path: str) -> None:
    """Write the level diagram of a graph to a .svg, .png or .dot file."""
    from nldsl.diagram.draw import draw as write

    write(graph, path)


def _checked(program: str, hyper: dict[str, Any], text: str | None, as_model: bool) -> LevelGraph:
    from nldsl.program import entry, front_end

    if as_model:
        from nldsl.as_model import model_of

        program, text = model_of(program, text)
    result = front_end(program, hyper, text)
    if result.graph is None and not result.findings.errors and result.module is not None:
        entry(result.module, "model", result.findings)
    result.findings.raise_errors()
    assert result.graph is not None
    return result.graph


def __getattr__(name: str) -> Any:
    """The forms are imported when they are asked for, so that the command line answers at once."""
    if name == "LevelGraph":
        from nldsl.graph import LevelGraph

        return LevelGraph
    if name in ("Diagnostic", "ProgramError"):
        from nldsl import diagnostics

        return getattr(diagnostics, name)
    if name == "CompiledModule":
        from nldsl.compiler.module import CompiledModule

        return CompiledModule
    raise AttributeError(f"module 'nldsl' has no attribute {name!r}")
