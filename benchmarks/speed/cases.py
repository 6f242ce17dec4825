"""The table of cases: what is measured beside what, what is asked of it, and where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.speed import byhand, byhand_delta, byhand_ttt, ours, peers
from benchmarks.speed.jobs import Side

SAME = "nothing: a test compares their answers and gradients"


@dataclass(frozen=True)
class Case:
    """faster: the least ratio of tokens per second, ours over the peer's, by length. memory: the largest share of the
    peer's peak, at the longest length. known: tokens per second of the peer by length, measured alone (`KNOWN`).
    differs: where the two sides don't do the same."""

    ours: Side
    peer: Side
    faster: Mapping[int, float] = field(default_factory=dict)
    memory: float | None = None
    known: Mapping[int, float] = field(default_factory=dict)
    differs: str = SAME


# The yardstick: every case in which a peer's figure is known measures it too, in the same rounds. The figures of this
# file (`known`) are those of eager torch 2.13 on two shared x86-64 cores, the best call of two passes. A peer that
# reaches less than ENOUGH of its own, scaled by the yardstick's, is being run wrongly.
YARDSTICK = Side("softmax block by hand", byhand.softmax)
KNOWN = {512: 15_500, 2048: 11_600}
ENOUGH = 0.8

# Periods of the continuum memory systems, the same in both Hopes: the paper's, and those whose figure is known.
SLOW, FAST = (512, 2048, 8192), (16, 64, 256, 1024)

GATES = (
    "its memory has a norm and a residual, ours none; ours has convolutions, silu and unit q and k before it, and a "
    "norm and a full gate after it, its gate is a number per head; its momentum and decay are one number per chunk, "
    "ours one per token; its reads see a chunk's writes from the next chunk on (its last token: its own), ours at once"
)
AT_ONCE = "; it takes all gradients of a sequence at the weights that the sequence began with, ours at each chunk's"
HOPE = (
    "ours learns through every write, it through none and writes in a second forward; its five memories are as wide as "
    "the model and shared by the batch, ours 4 heads of 64 for each sequence; its levels have one teaching signal from "
    "the end of the sequence, ours the loss of their own window"
)


def own(name: str, program: str, compiled: bool = False, **options: Any) -> Side:
    return Side(name, partial(ours.block, program, **options), compiled, warming=ours.WARMING)


def lmm(chunk: int, compiled: bool = False, budget: int = 0) -> Side:
    within = f", chunks within {budget >> 20} MiB" if budget else ""
    return own(f"Titans LMM, chunk {chunk}{within}", "std.titans:LMM", compiled, chunk=chunk, memory_budget=budget)


def titans(chunk: int, batched: bool) -> Side:
    batch = f", batch_size={chunk}" if batched else ""
    build = partial(peers.titans, chunk=chunk, batched=batched)
    return Side(f"titans-pytorch NeuralMemory, chunk_size={chunk}{batch}", build, packages=("titans-pytorch",))


def hope(periods: tuple[int, ...], compiled: bool = False) -> Side:
    build = partial(ours.model, "std.hope:Hope", depth=1, chunk=16, periods=periods)
    return Side(f"Hope, one layer, chunk 16, periods {periods}", build, compiled, warming=ours.WARMING)


def nested_learning(periods: tuple[int, ...]) -> Side:
    build = partial(peers.hope, chunk=16, periods=periods)
    return Side("nested-learning Hope, the same sizes, its writes on", build, packages=("nested-learning",))


def unnamed(how: str) -> Side:
    name = "the same program by its per-token recurrence, compiled" if how else "rule nobody has named, chunk 64"
    return own(name, "unnamed.nl:Unnamed", compiled=True, chunk=64, only=how)


def naive(name: str) -> str:
    return f"{name} around fla-core's naive chunk form, chunk 64"


FLA = ("fla-core",)

TITANS_16 = Case(lmm(16), titans(16, False), {512: 3, 2048: 6}, 1 / 8, {512: 1_808, 2048: 807}, differs=GATES + AT_ONCE)
TITANS_64 = Case(
    lmm(64), titans(64, False), {512: 1.8, 2048: 1.8}, 1 / 4, {512: 4_558, 2048: 5_368}, differs=GATES + AT_ONCE
)
TTT_MLP = Case(
    own("TTT-MLP, chunk 16", "std.ttt:TTTMLP", chunk=16),
    Side("TTT-MLP by hand: dual form, checkpointed scan", partial(byhand_ttt.ttt_mlp, chunk=16)),
    {512: 2.5, 2048: 2.5},
    known={512: 1_544, 2048: 1_435},
)

HOPE_FAST = Case(hope(FAST), nested_learning(FAST), {512: 12, 2048: 12}, known={512: 101}, differs=HOPE)

DELTANET = Case(
    own("DeltaNet", "std.delta:DeltaNet"),
    Side(naive("DeltaNet"), partial(byhand_delta.deltanet, chunk=64), packages=FLA),
    {512: 1.5, 2048: 1.5},
)
GATED = Case(
    own("Gated DeltaNet", "std.delta:GatedDeltaNet"),
    Side(naive("Gated DeltaNet"), partial(byhand_delta.gated_deltanet, chunk=64), packages=FLA),
    {512: 1.5, 2048: 1.5},
)

CASES: dict[str, Case] = {
    "titans-16": TITANS_16,
    "titans-16-compiled": replace(TITANS_16, ours=lmm(16, compiled=True)),
    "titans-16-budget": replace(TITANS_16, ours=lmm(16, budget=192 << 20)),
    "titans-16-budget-compiled": replace(TITANS_16, ours=lmm(16, compiled=True, budget=192 << 20)),
    "titans-16-batch": Case(lmm(16), titans(16, True), {512: 3, 2048: 6}, 1 / 8, differs=GATES),
    "titans-64": TITANS_64,
    "titans-64-compiled": replace(TITANS_64, ours=lmm(64, compiled=True)),
    "titans-64-budget": replace(TITANS_64, ours=lmm(64, budget=80 << 20)),
    "titans-64-budget-compiled": replace(TITANS_64, ours=lmm(64, compiled=True, budget=80 << 20)),
    "titans-64-batch": Case(lmm(64), titans(64, True), {512: 1.8, 2048: 1.8}, 1 / 4, differs=GATES),
    "ttt-mlp": TTT_MLP,
    "ttt-mlp-compiled": replace(TTT_MLP, ours=own("TTT-MLP, chunk 16", "std.ttt:TTTMLP", compiled=True, chunk=16)),
    "hope": Case(hope(SLOW), nested_learning(SLOW), {512: 12, 2048: 12}, differs=HOPE),
    "hope-compiled": Case(hope(SLOW, compiled=True), nested_learning(SLOW), {512: 12, 2048: 12}, differs=HOPE),
    "deltanet": DELTANET,
    "gated-deltanet": GATED,
    "deltanet-compiled": replace(DELTANET, ours=own("DeltaNet", "std.delta:DeltaNet", compiled=True)),
    "gated-deltanet-compiled": replace(GATED, ours=own("Gated DeltaNet", "std.delta:GatedDeltaNet", compiled=True)),
    "transformer": Case(
        own("Transformer block", "transformer_block.nl:TransformerBlock", compiled=True),
        Side("the same by hand with SDPA", byhand.transformer, compiled=True),
        {512: 0.97, 2048: 0.97},
    ),
    "llama": Case(
        own("Transformer++ block", "std.transformer:TransformerPlusPlus", compiled=True),
        Side("transformers' Llama layer", peers.llama, compiled=True, packages=("transformers",)),
    ),
    "unnamed": Case(unnamed(""), unnamed("recurrence"), {2048: 20}),
    "hope-fast": HOPE_FAST,
    "hope-fast-compiled": replace(HOPE_FAST, ours=hope(FAST, compiled=True)),
}
