"""A model around a block: embedding, block, head, and a learn for all that nothing else claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nldsl.diagnostics import Diagnostic, Findings, ProgramError
from nldsl.program import Result, front_end, function_of
from nldsl.spans import Span
from nldsl.syntax import tree

MODEL = """
model {name}({parameters}) over ids: int {{
  x = ids |> embed(vocab, {width})
  x = x + {block}({arguments})(rmsnorm(x))
  logits = x |> rmsnorm |> linear(vocab)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(outer_lr, decay = 0.1) every step
  return logits
}}
"""


def whole(program: str, hyper: Mapping[str, Any] | None = None) -> Result:
    """The program after the front end; in the place of a block that learns from the loss, a model of one layer around
    it, where there can be one."""
    result = front_end(program, hyper)
    if not any(d.code == "NL111" for d in result.findings.errors):
        return result
    try:
        name, text = model_of(program)
    except ProgramError:
        return result
    return front_end(name, hyper, text)


def model_of(program: str, text: str | None = None) -> tuple[str, str]:
    """(program, text) of a model with the block in it that `program` names, with `vocab` (256) and `outer_lr` (4e-4)
    beside the block's own hyper-parameters. A model is given back as it is. Raises ProgramError where there is no such
    block, or where it is not over one stream `x: [dim] -> [dim]`."""
    findings = Findings()
    function = function_of(program, findings, text)
    findings.raise_errors()
    if function is None:
        said = f"`{program}` has no block to make a model of; name one: `{program}:Name`"
        raise ProgramError([Diagnostic("NL109", said, Span(program, 1, 1, 1, 1))])
    block, file, text = function.definition, function.module.file, function.module.text
    if block.kind == "model":
        return f"{file}:{block.name.id}", text
    own = [p for p in block.parameters if p.name not in ("vocab", "outer_lr")]
    parts = {
        "name": _free(f"{block.name.id}Model", text),
        "block": block.name.id,
        "width": _width(block),
        "parameters": ", ".join(["vocab = 256", *(_shown(p, text) for p in own), "outer_lr = 4e-4"]),
        "arguments": ", ".join(f"{p.name} = {p.name}" for p in own),
    }
    return f"{file}:{parts['name']}", text + MODEL.format(**parts)


def _width(block: tree.Definition) -> str:
    """The parameter that says how wide a block is."""
    shapes = [p.shape for p in block.ports] + list(block.results)
    widths = {_name(s) for s in shapes}
    if len(block.ports) != 1 or len(shapes) != 2 or len(widths) != 1 or "" in widths:
        raise ProgramError(
            [
                Diagnostic(
                    "NL109",
                    f"`{block.name.id}` is no block over one stream `x: [dim] -> [dim]`",
                    block.name.span,
                    hint="write the model around it yourself",
                )
            ]
        )
    return widths.pop()


def _name(shape: tree.List | tree.Name | None) -> str:
    """`dim` of `[dim]`, "" of any other shape."""
    items = shape.items if isinstance(shape, tree.List) else ()
    return items[0].id if len(items) == 1 and isinstance(items[0], tree.Name) else ""


def _shown(parameter: tree.Parameter, text: str) -> str:
    """A parameter as the text has it."""
    if parameter.default is None:
        return parameter.name
    span = parameter.default.span
    lines = text.splitlines()[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return f"{parameter.name} = {' '.join(line.strip() for line in lines)}"


def _free(name: str, text: str) -> str:
    while name in text:
        name += "_"
    return name
