"""`module.compile` hands every body to `torch.compile`, each as one whole graph; a whole module may be compiled too.

The backend is torch's `aot_eager` where gradients matter: all of its compiler but the machine code at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from torch import fx
from torch._dynamo.backends.debugging import aot_eager

import nldsl
from compiler.programs import furthest, given, program, squares, stirred
from compiler.test_module import near, same
from compiler.test_traced import CLAUSES

TOLERANCE = 1e-12
Backend = Callable[[fx.GraphModule, list[Any]], Any]


@pytest.fixture(autouse=True)
def fresh() -> None:
    """torch keeps what it compiled, and counts it, by code."""
    torch._dynamo.reset()


class Counting:
    """A backend that counts the graphs it is given."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.graphs = backend, 0

    def __call__(self, graph: fx.GraphModule, inputs: list[Any]) -> Any:
        self.graphs += 1
        return self.backend(graph, inputs)


def as_it_is(graph: fx.GraphModule, inputs: list[Any]) -> Any:
    return graph.forward


def compiled(backend: Backend, name: str) -> tuple[CompiledModule, CompiledModule, Counting]:
    """A module with compiled bodies, the same without, and what counts the graphs."""
    plain, module, counting = program(name), program(name), Counting(backend)
    module.compile(backend=counting)
    return module, plain, counting


@pytest.mark.parametrize("name", ["DeltaNet", "LMM", "TTTLinear", "Transformer", "SelfModifyingTitans"])
def test_compiled_bodies_compute_the_same_for_any_number_of_chunks(name: str) -> None:
    """Outputs and gradients; and once a length was met twice, no other needs another graph."""
    module, plain, counting = compiled(aot_eager, name)
    seen = []
    chunk = 128 if name == "DeltaNet" else 8
    for ticks in (chunk, chunk, 2 * chunk, 3 * chunk):
        x = given(plain, ticks)
        assert same(module(x)[0], plain(x)[0])
        assert furthest(squares(module, x), squares(plain, x)) <= TOLERANCE
        seen.append(counting.graphs)
    assert seen[-1] == seen[1] > 0, seen


def test_stacked_layers_have_the_same_gradients_in_machine_code() -> None:
    """Layers share compiled bodies, and each has its own numbers in them."""
    plain, module = (
        stirred(nldsl.compile("std.delta:DeltaTransformer", dim=8, depth=2, heads=2, vocab=7, dtype=torch.float64))
        for _ in range(2)
    )
    module.compile()
    ids = torch.randint(7, (2, 6), generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad(plain.loss(ids), list(plain.parameters()))
    for _ in range(2):  # the first time, bodies are run as they are to see what they give
        found = torch.autograd.grad(module.loss(ids), list(module.parameters()))
        assert furthest(list(found), list(expected)) <= TOLERANCE


def test_training_and_validation_take_turns() -> None:
    """Batches of all sizes and texts of all lengths, with gradients and without: what was met twice needs no graph
    when it comes again, and no body is compiled anew so often that torch gives up."""
    module, plain, counting = compiled(as_it_is, "DeltaNet")
    modes = (torch.enable_grad, torch.no_grad, torch.inference_mode)
    seen = []
    lengths = (8, 7, 1, 40)
    for ticks in lengths * 3:
        for batch in (2, 1):
            x = given(plain, ticks, batch=batch)
            for mode in modes:
                with mode():
                    y, state = module(x)
                    assert same(y, plain(x)[0])
                    assert same(module(x, state)[0], plain(x, plain(x)[1])[0])
        seen.append(counting.graphs)
    assert seen[-1] == seen[2 * len(lengths) - 1], seen


def test_batches_of_another_size_are_computed_in_it() -> None:
    for name in ("DeltaNet", "Attention"):
        module, plain, _ = compiled(as_it_is, name)
        for batch in (3, 3, 1, 1, 2):
            x = given(plain, 6, batch=batch)
            with torch.no_grad():
                (y, state), (expected, after) = module(x), plain(x)
            assert same(y, expected) and near(state, after)


def test_generation_needs_few_graphs() -> None:
    """Step by step, each with one more pair in what attention keeps."""
    module, plain, counting = compiled(as_it_is, "Transformer")
    ids = given(plain, 24)
    with torch.no_grad():
        expected, _ = plain(ids)
        part, state = module(ids[:, :8])
        parts, seen = [part], []
        for t in range(8, 24):
            part, state = module(ids[:, t : t + 1], state)
            parts.append(part)
            seen.append(counting.graphs)
    assert same(torch.cat(parts, 1), expected)
    assert seen[-1] == seen[4], seen


def test_gaps_conditions_and_restarts() -> None:
    module, plain = (stirred(nldsl.compile_text(CLAUSES, dtype=torch.float64)) for _ in range(2))
    module.compile(backend=as_it_is)
    x, mask = given(plain, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 7:] = False
    for _ in range(2):
        (y, state), (expected, after) = module(x, mask=mask), plain(x, mask=mask)
        assert same(y, expected) and near(state, after)
        assert furthest(squares(module, x), squares(plain, x)) <= TOLERANCE


def test_autocast_and_other_dtypes_reach_compiled_bodies() -> None:
    module, plain = (program("DeltaNet", torch.float32) for _ in range(2))
    module.compile(backend=as_it_is)
    x = given(plain, 6)
    for enabled in (True, False, True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert torch.allclose(module(x)[0], plain(x)[0], rtol=1e-5, atol=1e-5)
    x = x.double()
    for _ in range(2):
        assert same(module.double()(x)[0], plain.double()(x)[0])


def test_parameters_are_frozen_after_a_body_was_compiled() -> None:
    """What a body is given is looked at whenever it is called."""
    module, plain, counting = compiled(aot_eager, "Attention")
    x, seen = given(plain, 3), []
    for learned in (True, True, False, True, False):
        for made in (module, plain):
            made.q.linear.w.requires_grad_(learned)
            made.zero_grad()
            made(x)[0].square().sum().backward()
        found, expected = ([p.grad for p in made.parameters() if p.grad is not None] for made in (module, plain))
        assert len(found) == len(expected) and furthest(found, expected) <= TOLERANCE
        seen.append(counting.graphs)
    assert 0 < seen[1] < seen[2] == seen[-1], seen


@pytest.mark.parametrize("name", ["Transformer", "DeltaNet"])
def test_a_whole_module_is_one_graph(name: str) -> None:
    """Where nothing learns from the loss on a token clock."""
    module, counting = program(name), Counting(aot_eager)
    whole = torch.compile(module, fullgraph=True, backend=counting)
    x = given(module, 6)
    (y, state), (expected, after) = whole(x), module(x)
    assert same(y, expected) and near(state, after)
    found, wanted = (torch.autograd.grad((v**2).sum(), list(module.parameters())) for v in (y, expected))
    assert furthest(list(found), list(wanted)) <= TOLERANCE
    assert counting.graphs == 1


def test_two_sizes_of_a_program_in_one_process() -> None:
    """Numbers of the second are not those of the first, and still none of them changes."""
    for dim in (8, 16):
        module = nldsl.compile("std.ttt:TTTMLP", dim=dim, heads=2, chunk=4)
        module.compile(backend="eager")
        for length in (8, 12):
            (y,) = module(torch.randn(1, length, dim))[:1]
            assert y.shape == (1, length, dim)
