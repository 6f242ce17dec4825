"""What a chunk's body computes from its inputs alone is taken out of the loop, and done for all chunks at once.

Left in the loop is what needs the state that the chunk before left: a few products per chunk.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nldsl.compiler.bodies.nodes import CONSTANTS, is_view, part, results_of, value
from torch import fx


@dataclass(frozen=True)
class Hoisted:
    """A body in two. early: the inputs named by their places -> results, laid out with these strides.
    late: all inputs, then these results -> what the body gives."""

    early: fx.GraphModule
    places: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    late: fx.GraphModule


def hoisted(body: fx.GraphModule, stateless: Collection[int]) -> Hoisted | None:
    """A body in two, None if there is nothing to take out. stateless: the places of inputs that no chunk changes."""
    nodes: list[fx.Node] = list(body.graph.nodes)
    inputs = [n for n in nodes if n.op == "placeholder"]
    known = {inputs[i] for i in stateless}
    free = set(inputs)
    for node in nodes:
        if node.op == "call_function":
            needed = node.all_input_nodes
            if all(n in known for n in needed):
                known.add(node)
            if (is_view(node) and all(n in free for n in needed)) or node.target in CONSTANTS:
                free.add(node)
    results = [n for n in nodes if n in known and n not in free and any(u not in known for u in n.users)]
    if not results:
        return None
    places = tuple(sorted(stateless))
    early = part(body, [inputs[i] for i in places], results)
    late = part(body, [*inputs, *results], results_of(body))
    return Hoisted(early, places, tuple(value(n).stride() for n in results), late)
