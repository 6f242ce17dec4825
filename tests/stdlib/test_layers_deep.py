"""Layers of deep memories, and models whose memories learn from the loss: each is what it is by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import nldsl
from nldsl.modules import library

from . import layers_deep as layers
from . import losses_deep as losses
from .comparing import agree, wiring
from .layers_deep import Layer
from .losses_deep import ByHand, learning_from_loss
from .rows_deep import CHUNK

SIZES = {"dim": 8, "heads": layers.HEADS}
CHUNKS = SIZES | {"chunk": CHUNK}
NARROW = CHUNKS | {"narrow": 2, "window": 3}
WINDOW = CHUNKS | {"window": 3, "persistent": 2}
SEGMENTS = {"dim": 4, "heads": 1, "segment": layers.SEGMENT, "persistent": 3}
SHARDS = SIZES | {"global_chunk": 8, "shard": 8, "chunks": [2, 4]}

LAYERS: dict[str, tuple[Layer, dict[str, Any]]] = {
    "std.ttt:TTTLinear": (layers.ttt_linear, CHUNKS),
    "std.ttt:TTTMLP": (layers.ttt_mlp, CHUNKS),
    "std.titans:LMM": (layers.lmm, CHUNKS),
    "std.titans:MAC": (layers.mac, SEGMENTS),
    "std.titans:MAG": (layers.mag, WINDOW),
    "std.titans:MAL": (layers.mal, WINDOW),
    "std.miras:Moneta": (layers.moneta, CHUNKS),
    "std.miras:Yaad": (layers.yaad, CHUNKS),
    "std.miras:Memora": (layers.memora, CHUNKS),
    "std.atlas:DLA": (layers.dla, CHUNKS),
    "std.atlas:OmegaNet": (layers.omega, NARROW),
    "std.atlas:Atlas": (layers.atlas, NARROW),
    "std.atlas:Dot": (layers.dot, NARROW),
    "std.lact:LaCT": (layers.lact, CHUNKS | {"window": CHUNK}),
    "std.tnt:TNT": (layers.tnt, SHARDS),
    "std.self_modifying:FixedProjections": (layers.fixed_projections, SIZES),
    "std.self_modifying:AdaptiveProjections": (layers.adaptive_projections, SIZES),
    "std.hope:SelfModifyingTitans": (layers.self_modifying, CHUNKS),
}

PACES = {"periods": [2, 4]}
NESTED = {"fastest": 2, "slower": [4, 8], "lr": 0.5, "start_lr": 0}
LAYER = {"depth": 1, "heads": layers.HEADS} | PACES
END_TO_END = {"heads": layers.HEADS, "window": 3, "period": 4, "lr": 0.5}

MODELS: dict[str, tuple[str, ByHand, dict[str, Any]]] = {
    "sequential": ("hope:CMS", losses.sequential("cms", [2, 4]), PACES),
    "independent": ("cms:IndependentCMS", losses.independent([2, 4]), PACES),
    "nested, starts stay": ("cms:NestedCMS", losses.nested([2, 4, 8], 0.5, 0), NESTED),
    "nested, starts learn": (
        "cms:NestedCMS",
        losses.nested([2, 4], 0, 0.3),
        NESTED | {"slower": [4], "lr": 0, "start_lr": 0.3},
    ),
    "HopeAttention": (
        "hope:HopeAttention",
        losses.sequential("layers.0.cms", [2, 4], losses.after_attention),
        LAYER,
    ),
    "Hope": (
        "hope:Hope",
        losses.sequential("layers.0.cms", [4, 8], losses.after_titans),
        LAYER | {"periods": [4, 8], "chunk": CHUNK},
    ),
    "TTT-E2E": ("ttt_e2e:TTTE2E", losses.end_to_end(4, 0.5, 100, 3), END_TO_END | {"clip": 100}),
    "TTT-E2E, clipped": ("ttt_e2e:TTTE2E", losses.end_to_end(4, 0.5, 0.05, 3), END_TO_END | {"clip": 0.05}),
}


@pytest.mark.parametrize("program", LAYERS)
def test_a_layer_is_its_rule_and_what_is_around_it(program: str) -> None:
    by_hand, hyper = LAYERS[program]
    agree(wiring(program, by_hand, **hyper))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_learns_from_its_loss(name: str) -> None:
    """19 tokens: two contexts of the slowest, and a piece of one."""
    place, by_hand, hyper = MODELS[name]
    file, _, block = place.partition(":")
    agree(learning_from_loss(f"{library() / file}.nl:{block}", by_hand, 19, **hyper))


# The numbers of TTT and of Titans' memory are their authors' and older than this bound.
MEASURED = [p for p in LAYERS if p.split(":")[1] not in ("TTTLinear", "TTTMLP", "LMM", "MAG", "MAL")]
TICKS = 120


@pytest.mark.parametrize("program", MEASURED)
def test_memories_keep_their_measure_as_they_start(program: str) -> None:
    """Four words over and over: no slower and no faster than ten times in 1000 tokens; and they learn."""
    random = torch.Generator().manual_seed(0)
    words = torch.randn(4, 16, generator=random, dtype=torch.float64)
    text = words[torch.randint(len(words), (1, TICKS), generator=random)]
    sizes = LAYERS[program][1] | {"dim": 16}
    if "chunk" in sizes:
        sizes["chunk"] = 16
    module = nldsl.compile(program, **sizes, dtype=torch.float64)
    _, state = module(text)
    starts = dict(module.named_parameters())
    running = module.weights(state)
    assert running
    for name, value in running.items():
        start = starts[name].detach() if name in starts else torch.zeros(())
        if program == "std.miras:Memora":
            start = start.softmax(-2)
        assert not torch.equal(value[0], start), name
        if start.any():
            moved = float(value.detach().norm() / start.norm())
            assert 10 ** (-TICKS / 1000) < moved < 10 ** (TICKS / 1000), (name, moved)
