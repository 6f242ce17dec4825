"""Why a loop has a closed form, in words that a person can check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nldsl.compiler.affine import Answer, is_one
from nldsl.compiler.lowerings.weight import Weight

from nldsl.graph import Objective

if TYPE_CHECKING:
    from nldsl.compiler.lowerings.closed import Ticks

# What a tick makes of the weight as it was -> the class of the scan, alone and beside what is written back.
SUMS = {"same": "a sum", "number": "a decay: one number per tick", "rows": "a decay: a number per tick for every row"}
BESIDE = {"same": "the identity", "number": "a number", "rows": "a diagonal"}
RANKS = {1: "one", 2: "two", 3: "three", 4: "four"}


def of(ticks: Ticks, memory: str, kernels: Sequence[str]) -> tuple[str, ...]:
    """Lines about a memory: its gradients, each of its weights, how it is read, the kernels that know it."""
    weights = {leaf: w for (m, leaf), w in ticks.weights.items() if m == memory}
    lines = [*_gradients(ticks, memory)]
    same: dict[str, list[str]] = {}
    for leaf, weight in weights.items():
        same.setdefault(_class(weight), []).append(leaf)
    lines += [f"{', '.join(leaves)}: {text}" for text, leaves in same.items()]
    if any(weight.mapped for weight in weights.values()):
        lines.append("maps of what is known already: of all ticks at once (scan, map, scan)")
    reads = {r.args[1] for r in ticks.waiting.values() if r.op == "matmul" and r.args[1] in ticks.told}
    answers = [weight for weight, told in ticks.told.values() if isinstance(told, Answer)]
    if any(weight in weights.values() for weight in [*answers, *(ticks.told[str(r)][0] for r in reads)]):
        lines.append("read inside a chunk: by products with what was written, no weight per tick (the dual form)")
    if kernels:
        lines.append(f"on a GPU, in half precision: flash-linear-attention's {', '.join(kernels)}, if it is installed")
    return tuple(lines)


def _gradients(ticks: Ticks, memory: str) -> list[str]:
    lines = []
    for record, part in ticks.loop.nodes:
        if isinstance(record, Objective) and part == "write" and memory in record.memories:
            found = [f for name, f in ticks.found.get(record.id, {}).items() if name.startswith(f"{memory}.")]
            if any(f.band is not None for f in found):
                lines.append("gradients: of each window's tokens, known before the chunk (`hold gradient`)")
            elif not found:
                lines.append(f"gradients: known before the chunk (`hold {record.hold}`)")
            elif any(f.answers for f in found):
                lines.append("gradients: affine in what the memory answers")
            else:
                lines.append("gradients: don't look at the memory")
    return lines


def _class(weight: Weight) -> str:
    states = len([n for n in weight.states if n not in ("w", "start")])
    rank = len(weight.asked())
    if states:
        solve = ", and one triangular system" if rank else ""
        numbers = "numbers per tick and row" if weight.by_row else "numbers per tick"
        return f"the weight and {states} state{'s' if states > 1 else ''}: {states + 1} x {states + 1} {numbers}{solve}"
    kept = "number" if not is_one(weight.now["w"].terms.get("w", 0.0)) else "same"
    kept = "rows" if weight.by_row else kept
    if not rank:
        return SUMS[kept]
    return f"{BESIDE[kept]} and rank {RANKS.get(rank, str(rank))}: one triangular system"
