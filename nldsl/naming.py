"""The rule that names every parameter.

A parameter's name is the path of what encloses it, joined by dots. `repeat` adds `layers.i` (or `name.i`, with `as
name`). A block or a net that is applied adds its own name in snake case. A statement that binds a new stream lends its
name to what it applies (`q = x |> linear(dim)` makes `q.linear.w`); one that binds a name anew, or returns, lends none.
Within `for p in …` what is declared or applied gets `_value` behind its name. The second use of one net within a
statement is `linear_2`. So no name depends on another statement of the text; two parameters with one name are an error.
"""

from __future__ import annotations

import re
from fractions import Fraction


def snake(name: str) -> str:
    """`SelfModifyingTitans` -> `self_modifying_titans`, `CMS` -> `cms`."""
    name = name.rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def suffix_of(value: object) -> str:
    """How a loop's value is written in a name: `512`, `0p5`, `m1`."""
    if isinstance(value, Fraction):
        value = float(value)
    return "_" + re.sub(r"[^0-9A-Za-z]", "_", str(value).replace(".", "p").replace("-", "m"))
