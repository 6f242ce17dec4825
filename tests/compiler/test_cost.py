"""What the cost model says, against the same programs on real tensors."""

from __future__ import annotations

import pytest
import torch
from nldsl.compiler import compiled
from nldsl.compiler.cost.costs import Cost, cost
from nldsl.compiler.cost.devices import DEVICES, device_of
from nldsl.compiler.cost.owners import block_of
from nldsl.compiler.cost.reading import kinds
from nldsl.compiler.cost.runs import Subject
from torch.utils.flop_counter import FlopCounterMode

import nldsl
from nldsl.program import front_end

from .running import Real

BATCH, LENGTH = 2, 24
SMALL = {
    "std.transformer:Transformer": {"dim": 16, "depth": 1, "heads": 2},
    "std.delta:DeltaNet": {"dim": 8, "heads": 2},
    "std.titans:LMM": {"dim": 8, "heads": 2, "chunk": 8},
    "std.hope:HopeAttention": {"dim": 8, "depth": 1, "heads": 2, "periods": [8, 16]},
}
DEEP = """
model Deep(vocab = 16, dim = 4, depth = 6, heads = 2) over ids: int {
  x = ids |> embed(vocab, dim)
  repeat depth {
    memory M = matrix(dim)
    x = x + M(x)
    learn M : x -> x minimizing l2 by gd(0.1) every token hold state for 4 tokens
  }
  logits = x |> linear(vocab)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(1e-3) every step
  return logits
}
"""


@pytest.fixture(scope="module", params=SMALL)
def both(request: pytest.FixtureRequest) -> tuple[Cost, Real]:
    graph = nldsl.load(request.param, **SMALL[request.param])
    return cost(graph, batch=BATCH, length=LENGTH), Real(graph, BATCH, LENGTH)


def test_flops_are_those_of_torchs_counter(both: tuple[Cost, Real]) -> None:
    said, real = both
    assert said.total.train_flops * BATCH * LENGTH == pytest.approx(real.flops(), rel=0.1)


def test_torchs_counter_may_be_on_while_bodies_are_traced() -> None:
    """It hooks into all modules, the graphs of bodies too if they are called as such."""
    graph = nldsl.load("std.titans:LMM", dim=8, heads=2, chunk=8)
    module = compiled(graph)
    module.runner.steps.patience = 0
    x = torch.randn(BATCH, LENGTH, 8, requires_grad=True)
    for _ in range(2):  # a body that is traced is run once more
        with FlopCounterMode(display=False) as counted:
            module(x)[0].sum().backward()
    said = cost(graph, batch=BATCH, length=LENGTH).total.train_flops * BATCH * LENGTH
    assert counted.get_total_flops() == pytest.approx(said, rel=0.1)


def test_state_is_exact(both: tuple[Cost, Real]) -> None:
    said, real = both
    assert said.total.state * BATCH == real.state()


def test_peak_memory_is_near(both: tuple[Cost, Real]) -> None:
    said, real = both
    assert said.peak == pytest.approx(real.peak(), rel=0.25)


def test_levels_and_blocks_say_the_same_in_all(both: tuple[Cost, Real]) -> None:
    said, real = both
    for name in ("parameters", "state", "train_flops", "train_bytes", "decode_flops", "decode_bytes"):
        levels, blocks = (sum(getattr(row, name) for row in rows) for rows in (said.levels, said.blocks))
        assert levels == pytest.approx(blocks)
    assert said.total.parameters == sum(p.numel() for p in real.module.parameters())


def test_a_deep_program_costs_what_its_rounds_do() -> None:
    graph = front_end("<text>", text=DEEP).graph
    assert graph is not None
    short = cost(graph, lambda rounds: front_end("<text>", text=DEEP, rounds=rounds).graph, length=12)
    whole = cost(graph, length=12)
    for ours, theirs in zip((*short.blocks, *short.levels), (*whole.blocks, *whole.levels), strict=True):
        for name in ("name", "parameters", "state", "train_flops", "decode_flops"):
            assert getattr(ours, name) == getattr(theirs, name)
        # The first and the last round move a little less than those between.
        assert (ours.train_bytes, ours.decode_bytes) == pytest.approx(
            (theirs.train_bytes, theirs.decode_bytes), rel=0.03
        )
    assert short.peak == pytest.approx(whole.peak, rel=0.05)


def test_twice_the_tokens_cost_twice_as_much() -> None:
    graph = nldsl.load("std.delta:DeltaNet", dim=8, heads=2)
    one, two = (Subject(graph, 1, torch.float32).training(length).work for length in (64, 128))
    assert two.flops == pytest.approx(2 * one.flops, rel=0.05)


def test_what_attention_keeps_grows_with_what_was_read() -> None:
    graph = nldsl.load("std.transformer:Attention", dim=8, heads=2)
    states = [cost(graph, length=length).total.state for length in (8, 16, 24)]
    assert states[1] - states[0] == states[2] - states[1] == 8 * 2 * 8 * 4


def test_every_kind_of_tick_has_its_share() -> None:
    graph = nldsl.load("std.hope:Hope", dim=8, depth=1, heads=2, chunk=4, periods=[16, 64])
    found = kinds(Subject(graph, 1, torch.float32), 10)
    assert sum(kind.share for kind in found) == pytest.approx(1)
    assert sorted(kind.share for kind in found) == [1 / 16, 3 / 16, 3 / 4]


def test_numbers_of_two_bytes_take_half_the_room() -> None:
    graph = nldsl.load("std.transformer:FeedForward", dim=8)
    full, half = (cost(graph, length=8, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.total.train_bytes == pytest.approx(full.total.train_bytes / 2, rel=0.01)  # but for the ticks' numbers
    assert half.total.train_flops == full.total.train_flops


def test_a_module_on_the_meta_device_has_no_numbers() -> None:
    module = nldsl.compile("std.hope:Hope", dim=4096, depth=2, heads=2, device="meta")
    assert {p.device.type for p in module.parameters()} == {"meta"}
    assert sum(p.numel() for p in module.parameters()) > 1e9


@pytest.mark.parametrize(
    ("folded", "block"),
    [
        ("layers.*.cms.F_512", "layers.*.cms"),
        ("layers.*.rmsnorm", "layers.*.rmsnorm"),
        ("logits.linear", "logits"),
        ("learn *", "learn *"),
        ("", "rest"),
    ],
)
def test_blocks_are_named_by_their_place(folded: str, block: str) -> None:
    assert block_of(folded) == block


def test_figures_of_a_device_can_be_given() -> None:
    own = device_of("mine", "float32", 1e12, 1e9)
    assert (own.flops["float32"], own.bandwidth) == (1e12, 1e9)
    assert device_of("H200", "bfloat16", None, 1e12).flops == DEVICES["h200"].flops
    with pytest.raises(ValueError, match="give --peak"):
        device_of("cpu", "float32", None, None)
