"""What a compiled module takes and gives: outputs and a state to go on from, parts of a text, gaps in it."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nldsl.compiler import state as states
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.reference import Interpreter
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import nldsl
from compiler.programs import PROGRAMS, VOCAB, furthest, given, leaves, program, squares
from nldsl.parameters import learned_parameters

TICKS = 13
TOLERANCE = 1e-12
CARRIED = ["Hope", "Titans", "TTT", "Attention", "HopeAttention"]

TWO = """\
block Two(dim = 4) over x: [dim], ids: int -> [dim], [] {
  memory M = matrix(dim)
  y = M(x)
  learn M : x -> y + (ids |> embed(5, dim)) minimizing l2 by gd(0.1) every token
  return y, sum(y * y)
}
"""


def near(a: Any, b: Any) -> bool:
    """Whether two states say the same."""
    first, second = leaves(a), leaves(b)
    assert first.keys() == second.keys(), first.keys() ^ second.keys()
    return all(same(first[name], second[name]) for name in first)


def same(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    return a.shape == b.shape and bool(((a - b).abs() <= TOLERANCE * b.abs().clamp(min=1)).all())


# What goes in and comes out


def test_a_model_gives_logits_and_a_state() -> None:
    module = program("Hope")
    logits, state = module(given(module, TICKS))
    assert logits.shape == (2, TICKS, VOCAB)
    again, _ = module(given(module, TICKS), module.initial_state(2))
    assert torch.equal(again, logits)
    rest = given(module, 5, seed=1)
    by_place, by_name = module(rest, state, None), module(rest, state=state)
    assert torch.equal(by_place[0], by_name[0])
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert same(module(rest, state, mask)[0], by_name[0])


def test_a_block_gives_all_its_outputs_and_a_state() -> None:
    module = nldsl.compile_text(TWO, dtype=torch.float64)
    x, ids = torch.randn(3, 7, 4, dtype=torch.float64), torch.randint(5, (3, 7))
    y, size, state = module(x, ids)
    assert (y.shape, size.shape) == ((3, 7, 4), (3, 7))
    assert torch.allclose(size, (y * y).sum(-1))
    assert module(x, ids, state)[0].shape == y.shape
    assert torch.equal(module(x.float(), ids.int())[0], module(x.float().double(), ids)[0]), "numbers are converted"


def test_a_mean_loss_is_the_mean_of_the_known_losses() -> None:
    module = program("Hope")
    ids = given(module, TICKS)
    losses, known, state = module.losses(ids)
    assert losses.shape == known.shape == (2, TICKS)
    assert not known[:, 0].any() and known[:, 1:].all()
    logits, _ = module(ids)
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    assert same(losses[:, 1:], expected)
    assert same(module.loss(ids), expected.mean())
    _, known, _ = module.losses(ids, state)
    assert known.all(), "the last token of the first call waited for this one"


# The state


def test_a_state_is_a_tree_of_named_tensors() -> None:
    for name in CARRIED:
        module = program(name)
        with torch.no_grad():
            _, state = module(given(module, TICKS))
        assert all(isinstance(x, Tensor) for x in tree_leaves(state))
        for memory in module.graph.memories.values():
            written = [o for o in module.graph.objectives if memory.id in o.memories and o.every.unit != "step"]
            assert not written or any(f"['{memory.id}']" in place for place in leaves(state)), memory.id


def saved(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)  # its default: tensors and plain containers only


COPIES: dict[str, Callable[[Any], Any]] = {
    "save and load": saved,
    "detach": lambda state: tree_map(torch.detach, state),
    "clone": lambda state: tree_map(torch.clone, state),
    "to": lambda state: tree_map(lambda x: x.to("cpu", copy=True), state),
    "deepcopy": copy.deepcopy,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
}


@pytest.mark.parametrize("name", CARRIED)
def test_copies_of_a_state_go_on_alike(name: str) -> None:
    module = program(name)
    first, rest = given(module, TICKS), given(module, 5, seed=1)
    with torch.no_grad():
        _, state = module(first)
        expected, after = module(rest, state)
        for made in COPIES.values():
            found, then = module(rest, made(state))
            assert torch.equal(found, expected)
            assert near(then, after)


def test_a_call_leaves_the_state_it_was_given_alone() -> None:
    for name in CARRIED:
        module = program(name)
        with torch.no_grad():
            _, state = module(given(module, TICKS))
            before = copy.deepcopy(state)
            module(given(module, 5), state)
            module(given(module, 5), state, torch.tensor([[True, False, True, True, False], [False] * 5]))
        assert near(state, before)


def test_a_state_that_is_handed_in_is_data() -> None:
    module = program("SelfModifyingTitans")
    x = given(module, TICKS).requires_grad_()
    _, state = module(x)
    assert any(v.requires_grad for v in tree_leaves(state)), "what is handed out may still be learned from"
    y, _ = module(given(module, 5, seed=1), state)
    assert torch.autograd.grad(y.sum(), x, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", CARRIED)
def test_prefill_is_step_by_step(name: str) -> None:
    module = program(name)
    x = given(module, TICKS)
    with torch.no_grad():
        whole, after = module(x)
        parts, state = [], module.initial_state(2)
        for t in range(TICKS):
            part, state = module(x[:, t : t + 1], state)
            parts.append(part)
    assert same(torch.cat(parts, 1), whole)
    assert near(state, after)


# Gaps: a padded text is the text

LENGTHS = (9, TICKS)


def right(row: int) -> Tensor:
    return torch.arange(TICKS) < LENGTHS[row]


def left(row: int) -> Tensor:
    return torch.arange(TICKS) >= TICKS - LENGTHS[row]


def holes(row: int) -> Tensor:
    return torch.arange(TICKS) % (3 + row) != 1 + row


def none(row: int) -> Tensor:
    return torch.full((TICKS,), bool(row))


def alone(state: Any, row: int) -> Iterator[dict[str, Tensor]]:
    """What a state keeps of one row, in the part that has it."""
    for part in state["parts"]:
        on = part["rows"] == row
        if on.any():
            yield {n: x for n, x in leaves(states.chosen(part, on)).items() if n != "['rows']"}


@pytest.mark.parametrize("shape", [right, left, holes, none])
@pytest.mark.parametrize("name", CARRIED)
def test_a_padded_text_is_the_text(name: str, shape: Callable[[int], Tensor]) -> None:
    """Outputs, losses and whole states: those of each row read alone. Whatever the gaps hold has no part in it."""
    module = program(name)
    x, mask = given(module, TICKS), torch.stack([shape(0), shape(1)])
    x[~mask] = -1 if x.dtype is torch.int64 else torch.nan
    rest, model = given(module, 3, seed=1), bool(module.graph.loss)
    with torch.no_grad():
        y, state = module(x, mask=mask)
        then, _ = module(rest, state)
        losses, known, _ = module.losses(x, mask=mask)
        assert not y[~mask].any() and not losses[~mask].any() and not known[~mask].any()
        for row in range(2):
            on, own = mask[row], module.initial_state(1)
            if on.any():
                expected, own = module(x[row : row + 1, on])
                assert same(y[row, on], expected[0])
                of_row, known_of_row, _ = module.losses(x[row : row + 1, on])
                assert same(losses[row, on], of_row[0])
                assert torch.equal(known[row, on], known_of_row[0])
                assert known_of_row.sum() == (on.sum() - 1 if model else 0)
            [found], [wanted] = alone(state, row), alone(own, 0)
            assert found.keys() == wanted.keys()
            assert all(same(found[n], wanted[n]) for n in wanted)
            assert same(then[row], module(rest[row : row + 1], own)[0][0])


def test_gradients_of_a_padded_text_are_the_texts() -> None:
    for name in ("Hope", "TTT"):
        module = program(name)
        x = given(module, TICKS)
        mask = torch.stack([holes(0), left(1)])
        total = torch.stack([module.loss(x[row : row + 1, mask[row]]) * (mask[row].sum() - 1) for row in range(2)])
        expected = torch.autograd.grad(total.sum() / (mask.sum() - 2), list(module.parameters()), allow_unused=True)
        found = torch.autograd.grad(module.loss(x, mask=mask), list(module.parameters()), allow_unused=True)
        assert [g is None for g in found] == [g is None for g in expected]
        pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
        assert furthest([a for a, _ in pairs], [b for _, b in pairs]) <= TOLERANCE


def test_where_there_is_no_token_at_all_nothing_happens() -> None:
    for name in CARRIED:
        module = program(name)
        with torch.no_grad():
            _, state = module(given(module, TICKS))
            y, after = module(given(module, 4), state, torch.zeros(2, 4, dtype=torch.bool))
        assert y.shape[:2] == (2, 4) and not y.any()
        assert near(after, state)


def test_running_weights_keep_the_order_of_the_rows() -> None:
    module = program("DeltaNet")
    x, mask = given(module, 6, batch=3), torch.ones(3, 6, dtype=torch.bool)
    mask[0, 2:] = mask[1, 5:] = False
    with torch.no_grad():
        _, state = module(x, mask=mask)
        assert len(state["parts"]) == 3
        for name, value in module.weights(state).items():
            rows = [module.weights(module(x[r : r + 1, mask[r]])[1])[name] for r in range(3)]
            assert same(value, torch.cat(rows))


# Parameters


@pytest.mark.parametrize("name", PROGRAMS)
def test_parameters_carry_the_names_of_the_text(name: str) -> None:
    path, hyper = PROGRAMS[name]
    module = nldsl.compile(path, **hyper, seed=3, dtype=torch.float64)
    wanted = learned_parameters(module.graph)
    assert module.state_dict().keys() == dict(module.named_parameters()).keys() == wanted.keys()
    drawn = Interpreter(module.graph, seed=3).parameters
    assert all(torch.equal(p, drawn[n]) for n, p in module.named_parameters())
    assert all(p.requires_grad and p.is_leaf for p in module.parameters())


def test_another_seed_is_another_start() -> None:
    path, hyper = PROGRAMS["DeltaNet"]
    first, second = (nldsl.compile(path, **hyper, seed=seed).state_dict() for seed in (0, 1))
    assert any(not torch.equal(first[n], second[n]) for n in first)


def test_parameters_go_into_another_module() -> None:
    for name in ("Hope", "TTTLinear"):
        module, other = (
            program(name),
            nldsl.compile(PROGRAMS[name][0], **PROGRAMS[name][1], dtype=torch.float64, seed=5),
        )
        x = given(module, TICKS)
        assert not torch.equal(other(x)[0], module(x)[0])
        missing, unexpected = other.load_state_dict(saved(module.state_dict()))
        assert not missing and not unexpected
        assert torch.equal(other(x)[0], module(x)[0])


def test_a_parameter_stands_at_its_place_in_the_module() -> None:
    module = program("Transformer")
    for name, value in module.named_parameters():
        assert module.get_parameter(name) is value


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copied_module_is_a_module_of_its_own(copied: Callable[[CompiledModule], CompiledModule]) -> None:
    module = program("DeltaNet")
    module.runner.steps.patience = 0  # what was traced is not copied
    x = given(module, 3)
    expected = squares(module, x)
    other = copied(module)
    assert furthest(squares(other, x), expected) <= TOLERANCE
    for value in other.parameters():
        value.data.zero_()
    assert furthest(squares(module, x), expected) <= TOLERANCE
