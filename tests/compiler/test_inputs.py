"""What does not fit is refused in one sentence that says the way out, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nldsl.compiler.module import CompiledModule
from torch import Tensor
from torch.utils._pytree import tree_map

import nldsl
from compiler.programs import DIM, VOCAB, given, program
from nldsl.vocabulary import vocabularies

PAIRS = """\
model Pairs(vocab = 7) over ids: int, t: int, x: [3] {
  memory T = embed(vocab, 4)
  h = one_hot(ids, 9) |> linear(4)
  learn T minimizing l2(self(t), h) by gd(0.1) every token
  logits = T(t) + h + (x |> linear(4)) |> linear(8)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""


@pytest.fixture(scope="module")
def model() -> CompiledModule:
    return program("HopeAttention", torch.float32)


@pytest.fixture(scope="module")
def block() -> CompiledModule:
    return program("DeltaNet", torch.float32)


def refused(call: Callable[[], Any]) -> str:
    """The sentence that a call ends with."""
    with pytest.raises(ValueError) as ended:
        call()
    return str(ended.value)


# Streams

KNOWN = "`HopeAttention` knows 0 to 10; give it a larger vocabulary, or leave padding out by `mask`"
WRONG_TOKENS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "numbers": (
        lambda ids: ids.float(),
        "`ids` must be integers [batch, ticks], not torch.float32; convert it by `ids.long()`",
    ),
    "truth": (lambda ids: ids > 0, "`ids` must be integers [batch, ticks], not torch.bool; convert it by `ids.long()`"),
    "no tensor": (lambda ids: ids.tolist(), "`ids` must be integers [batch, ticks] in a tensor, not list"),
    "one sequence": (
        lambda ids: ids[0],
        "`ids` must be integers [batch, ticks], not [5]; a single sequence is `ids.unsqueeze(0)`",
    ),
    "too many axes": (lambda ids: ids[..., None], "`ids` must be integers [batch, ticks], not [2, 5, 1]"),
    "a scalar": (lambda ids: ids[0, 0], "`ids` must be integers [batch, ticks], not []"),
    "no ticks": (
        lambda ids: ids[:, :0],
        "there is nothing to read in [2, 0]; give at least one row of one tick",
    ),
    "no rows": (lambda ids: ids[:0], "there is nothing to read in [0, 5]; give at least one row of one tick"),
    "too large": (
        lambda ids: ids + VOCAB,
        f"`ids` holds 20, and {KNOWN}",
    ),
    "negative": (
        lambda ids: ids.index_fill(1, torch.tensor(3), -100),
        f"`ids` holds -100, and {KNOWN}",
    ),
}


@pytest.mark.parametrize("case", WRONG_TOKENS)
def test_wrong_tokens(model: CompiledModule, case: str) -> None:
    wrong, sentence = WRONG_TOKENS[case]
    ids = torch.arange(10).reshape(2, 5)
    for call in (model, model.losses, model.loss, model.backward):
        assert refused(lambda call=call: call(wrong(ids))) == sentence


WRONG_VECTORS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "integers": (
        lambda x: x.long(),
        "`x` must be numbers [batch, ticks, 8], not torch.int64; convert it by `x.float()`",
    ),
    "complex": (
        lambda x: x.to(torch.complex64),
        "`x` must be numbers [batch, ticks, 8], not torch.complex64; convert it by `x.float()`",
    ),
    "too wide": (lambda x: torch.cat([x, x], -1), "`x` must be numbers [batch, ticks, 8], not [2, 5, 16]"),
    "one sequence": (
        lambda x: x[0],
        "`x` must be numbers [batch, ticks, 8], not [5, 8]; a single sequence is `x.unsqueeze(0)`",
    ),
    "elsewhere": (lambda x: x.to("meta"), "`x` is on meta and the module on cpu; move one of them by `.to(…)`"),
}


@pytest.mark.parametrize("case", WRONG_VECTORS)
def test_wrong_vectors(block: CompiledModule, case: str) -> None:
    wrong, sentence = WRONG_VECTORS[case]
    assert refused(lambda: block(wrong(given(block, 5)))) == sentence


def test_the_number_of_streams(model: CompiledModule) -> None:
    ids = given(model, 5)
    said = "`HopeAttention` is over `ids`: give 1, then perhaps a state and a mask"
    assert refused(lambda: model()) == said
    assert refused(lambda: model(ids, model.initial_state(2), None, ids)) == said
    pairs = nldsl.compile_text(PAIRS)
    assert refused(lambda: pairs(ids)).startswith("`Pairs` is over `ids`, `t`, `x`: give 3")
    x = torch.zeros(2, 4, 3)
    assert refused(lambda: pairs(ids % 7, ids % 7, x)).endswith("batch and number of ticks, not [2, 5], [2, 5], [2, 4]")


# Which tokens a program knows


def test_what_a_program_knows_is_read_off_its_text() -> None:
    graph = nldsl.load_text(PAIRS)
    assert vocabularies(graph) == {"ids": 8, "t": 7}, "what predicts `ids` knows 8, though `one_hot` knows 9"
    assert vocabularies(program("DeltaNet").graph) == {}
    counted = nldsl.compile_text("model Count over ids: int { return ids * 1.5 }")
    assert counted(torch.tensor([[-3, 10**9]]))[0].tolist() == [[-4.5, 1.5e9]], "no index, so any number will do"


def test_all_inputs_are_looked_at() -> None:
    pairs = nldsl.compile_text(PAIRS)
    ids, x = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 3)
    assert refused(lambda: pairs(ids, ids + 7, x)).startswith("`t` holds 7, and `Pairs` knows 0 to 6")
    assert refused(lambda: pairs(ids + 8, ids, x)).startswith("`ids` holds 8, and `Pairs` knows 0 to 7")
    pairs(ids + 7, ids + 6, x)


def test_padding_may_be_anything(model: CompiledModule) -> None:
    ids, mask = given(model, 5), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    ids[~mask] = -100
    assert model(ids, mask=mask)[0].isfinite().all()
    ids[1, 1] = -100
    assert refused(lambda: model(ids, mask=mask)).startswith("`ids` holds -100")


# States


def test_wrong_states(model: CompiledModule, block: CompiledModule) -> None:
    ids, x = given(model, 5), given(block, 5)
    _, state = model(ids)
    none = "this is no state; start from `initial_state(batch)`, or from what a call gave back"
    for wrong in (torch.ones(2, 5, dtype=torch.bool), {}, [state], "state", model(ids)):
        assert refused(lambda wrong=wrong: model(ids, wrong)) == none
    other = "this state is another program's; start from `initial_state(batch)`"
    assert refused(lambda: block(x, state)) == other
    wider = nldsl.compile("std.delta:DeltaNet", dim=2 * DIM, heads=2)
    assert refused(lambda: wider(torch.cat([x, x], -1), block(x)[1])) == other
    assert refused(lambda: model(ids[:1], state)) == "this state is of 2 sequences, and the inputs are of 1"
    assert refused(lambda: model.initial_state(0)) == "a state is of at least one sequence, not 0"


def test_a_state_of_another_dtype_or_device(block: CompiledModule) -> None:
    x = given(block, 5)
    _, state = block(x)
    double = tree_map(lambda v: v.double() if v.is_floating_point() else v, state)
    said = "this state is torch.float64 on cpu, and the module torch.float32 on cpu; move it likewise"
    assert refused(lambda: block(x, double)) == said
    away = state | {"parts": [tree_map(lambda v: v.to("meta"), state["parts"][0]) | {"rows": torch.arange(2)}]}
    assert refused(lambda: block(x, away)).endswith("on meta, and the module torch.float32 on cpu; move it likewise")


# Masks


def test_wrong_masks(model: CompiledModule) -> None:
    ids = given(model, 5)
    wanted = "`mask` must be bool [2, 5], True where there is a token, not "
    assert refused(lambda: model(ids, mask=torch.ones(2, 4, dtype=torch.bool))) == wanted + "torch.bool [2, 4]"
    assert refused(lambda: model(ids, None, torch.ones(2, 5))) == wanted + "torch.float32 [2, 5]"
    assert refused(lambda: model(ids, mask=[[True] * 5] * 2)) == wanted + "list"


def test_a_loss_needs_a_target(model: CompiledModule) -> None:
    said = "no token of this batch has a target: give at least two"
    assert refused(lambda: model.loss(torch.zeros(1, 1, dtype=torch.int64))) == said
    ids, mask = given(model, 3), torch.tensor([[True, False, False]] * 2)
    assert refused(lambda: model.loss(ids, mask=mask)) == said
