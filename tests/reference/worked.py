"""Small tools of the hand-worked tests: feed exact numbers in, compare with exact numbers out.

The numbers themselves are worked in each test, in fractions, beside the equations they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from nldsl.compiler.reference import Interpreter

from nldsl.program import front_end

TOLERANCE = 1e-12


def numbers(value: Any) -> Any:
    """Nested lists of exact numbers as nested lists of floats (tensors go through unchanged in value)."""
    if isinstance(value, torch.Tensor):
        return value.detach().tolist()
    if isinstance(value, (list, tuple)):
        return [numbers(item) for item in value]
    return float(value)


def tensor(value: Any) -> torch.Tensor:
    """A float64 tensor of nested lists of exact numbers."""
    return torch.tensor(numbers(value), dtype=torch.float64)


def stream(ticks: Sequence[Any]) -> torch.Tensor:
    """One sequence, batch of one: a list of T per-tick values becomes [1, T, ...]."""
    return tensor(ticks).unsqueeze(0)


def inputs_of(ports: Mapping[str, Sequence[Any]]) -> dict[str, torch.Tensor]:
    """Port name -> [1, T, ...] from port name -> list of T per-tick values."""
    return {name: stream(ticks) for name, ticks in ports.items()}


def interpreter(text: str, name: str | None = None, **hyper: Any) -> Interpreter:
    """The reference interpreter of a program text, in float64. A parameter that no gradient reaches is a finding of the
    gradient contract, and the very thing that some of these numbers are about: it is no obstacle here."""
    result = front_end(f"<text>:{name}" if name else "<text>", hyper, text)
    unreached = ("NL701", "NL702")
    assert [d for d in result.findings.errors if d.code not in unreached] == []
    assert result.graph is not None
    return Interpreter(result.graph, dtype=torch.float64, seed=0)


def put(machine: Interpreter, **values: Any) -> None:
    """Give parameters exact values; a dot of the name is written as two underscores (M__w is "M.w")."""
    for name, value in values.items():
        leaf = machine.parameters[name.replace("__", ".")]
        given = tensor(value)
        assert given.shape == leaf.shape, f"{name}: {tuple(leaf.shape)} wanted, {tuple(given.shape)} given"
        leaf.data.copy_(given)


def run(text: str, ports: Mapping[str, Sequence[Any]], name: str | None = None, **hyper: Any) -> list[Any]:
    """Load, run one sequence from the start, and hand back per output the list of its T per-tick values."""
    outs, _ = interpreter(text, name, **hyper).run(inputs_of(ports))
    return [numbers(out[0]) for out in outs]


def run_with_weights(
    text: str, ports: Mapping[str, Sequence[Any]], name: str | None = None, **hyper: Any
) -> tuple[list[Any], dict[str, Any]]:
    """As run, and the running values "memory.leaf" after the last tick."""
    machine = interpreter(text, name, **hyper)
    outs, state = machine.run(inputs_of(ports))
    return [numbers(out[0]) for out in outs], {key: numbers(value) for key, value in machine.weights(state).items()}


def weights_after(machine: Interpreter, ports: Mapping[str, Sequence[Any]], ticks: int) -> dict[str, Any]:
    """The running values "memory.leaf" of one sequence after its first `ticks` ticks, run from the start."""
    _, state = machine.run(inputs_of({name: values[:ticks] for name, values in ports.items()}))
    return {key: numbers(value) for key, value in machine.weights(state).items()}


def run_in_pieces(machine: Interpreter, ports: Mapping[str, Sequence[Any]], cuts: Sequence[int]) -> list[Any]:
    """Run one sequence in several calls that carry the state (cut before the ticks named), outputs joined."""
    length = len(next(iter(ports.values())))
    borders = [0, *cuts, length]
    state, joined = None, None
    for begin, end in pairwise(borders):
        outs, state = machine.run(inputs_of({name: values[begin:end] for name, values in ports.items()}), state)
        piece = [numbers(out[0]) for out in outs]
        joined = piece if joined is None else [old + new for old, new in zip(joined, piece, strict=True)]
    assert joined is not None
    return joined


def close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Assert equal shapes and every number within tolerance (absolute, scaled by numbers beyond one)."""
    have, want = tensor(actual), tensor(expected)
    assert have.shape == want.shape, f"shape {tuple(have.shape)}, wanted {tuple(want.shape)}"
    gap = (have - want).abs() / want.abs().clamp(min=1)
    assert bool((gap <= tolerance).all()), f"\nhave {have.tolist()}\nwant {want.tolist()}\n= {expected}"
