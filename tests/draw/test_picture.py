"""What a level diagram says: bands, boxes, counts and arrows."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

import nldsl
from nldsl.diagram.fold import LOSS, Folding, collapse, flow, reduced
from nldsl.diagram.picture import CONTEXT, GRADIENT, ROUND, START, Box, Picture, picture
from nldsl.diagram.wording import human
from nldsl.graph import LevelGraph
from nldsl.parameters import learned_parameters


@cache
def hope() -> LevelGraph:
    return nldsl.load("examples/hope.nl")


@cache
def shown() -> Picture:
    return picture(hope())


def boxes(of: Picture) -> dict[str, Box]:
    return {b.name: b for b in [*of.outside, *(b for band in of.bands for b in band.boxes)]}


def test_bands_run_from_fast_to_slow() -> None:
    assert [band.title for band in shown().bands] == [
        "level 1 · every token",
        "level 2 · every 512 tokens",
        "level 3 · every 2048 tokens",
        "level 4 · every 8192 tokens",
        "level 5 · every step",
        "level 6 · every step",
    ]


def test_attention_comes_first() -> None:
    assert picture(nldsl.load("std.transformer")).bands[0].title == "level 1 · closed form"


def test_repeated_layers_are_one_box() -> None:
    found = boxes(shown())
    fast = found["layers.*.cms.F_512"]
    assert (fast.copies, fast.size, fast.label) == (12, 2 * 512 * 4 * 512, "F_512")
    key = found["layers.*.self_modifying_titans.K"]
    assert (key.copies, key.heads, key.size) == (12, 8, 8 * 2 * 64 * 256)
    assert len(found) < 25


def test_small_weights_of_the_layers_are_one_box() -> None:
    group = boxes(shown())["layers.*"]
    assert (group.kind, group.copies, len(group.members)) == ("group", 12, 9)
    assert group.size == 2 * 512 * 512 + 4 * 512 + 3 * 4 * 512  # two projections, four norms, three kernels of width 4


def test_nothing_is_lost_in_folding() -> None:
    parameters = sum(p.size for p in learned_parameters(hope()).values())
    assert sum(band.parameters for band in shown().bands) == parameters


def test_optimizer_states_have_their_own_band() -> None:
    moments = shown().bands[4]
    assert [(b.label, b.kind, b.note) for b in moments.boxes] == [("m", "rule", "adamw"), ("v", "rule", "adamw")]
    assert moments.parameters == 0
    assert moments.state == 2 * sum(p.size for p in learned_parameters(hope()).values())


def test_the_trunk_runs_from_the_input_to_the_output() -> None:
    arrows = shown().arrows
    trunk = ["in:ids", "x.embed", "layers.*", "layers.*.self_modifying_titans.M", "layers.*.cms.F_512",
             "layers.*.cms.F_2048", "layers.*.cms.F_8192", "logits.rmsnorm", "logits.linear"]  # fmt: skip
    for a, b in [*pairwise(trunk), ("logits.linear", "out:out0"), ("logits.linear", LOSS)]:
        assert (a, b, CONTEXT) in arrows
    assert ("layers.*.cms.F_8192", "layers.*", ROUND) in arrows
    assert ("layers.*.cms.F_512", "layers.*.cms.F_8192", CONTEXT) not in arrows  # it goes by F_2048


def test_gradients_and_starts() -> None:
    arrows = shown().arrows
    titans = "layers.*.self_modifying_titans."
    for a, b in ((LOSS, "learn *"), (LOSS, "layers.*.cms.learn F_512"), ("learn *", "x.embed"), ("learn *", "layers.*"),
                 ("layers.*.cms.learn F_512", "layers.*.cms.F_512"), ("learn *", "learn * adamw.m"),
                 (titans + "learn K, V, Eta, Alpha, M", titans + "K")):  # fmt: skip
        assert (a, b, GRADIENT) in arrows
    assert {b for a, b, kind in arrows if kind == START} == {(1,), (2,), (3,), (4,)}  # whole bands


def test_holds_are_marked() -> None:
    found = boxes(shown())
    assert {b.label for b in found.values() if b.seen_late} == {"K", "V", "M", "Eta", "Alpha"}
    assert "hold state for 16 tokens" in found["layers.*.self_modifying_titans.learn K, V, Eta, Alpha, M"].note


def test_rounds_on_different_levels_share_a_band() -> None:
    titles = [band.title for band in picture(nldsl.load("std.titans")).bands]
    assert titles[:2] == ["levels 1, 3, 5, 7 · every token", "levels 2, 4, 6, 8 · every token"]


def test_names_are_as_long_as_they_must_be() -> None:
    found = boxes(picture(nldsl.load("examples/attention.nl:Attend", dim=8)))
    assert {b.label for b in found.values()} == {"x", "A", "q.linear", "k.linear", "v.linear", "linear", "out"}


def test_streams_are_contracted() -> None:
    pairs = flow(nldsl.load("examples/two_levels.nl"))
    assert ("q.linear", "M") in pairs and ("k.linear", "learn M") in pairs and ("v.linear", "learn M") in pairs
    assert ("k.linear", "M") not in pairs
    assert ("M", "logits.rmsnorm") in pairs


def test_numbers_that_are_no_indices_are_kept() -> None:
    fold = Folding.of(["layers.0.K", "layers.1.K", "F_0.5.up", "F_0.7.up", "once.0.K"])
    assert fold("layers.1.K") == "layers.*.K"
    assert fold("F_0.5.up") == "F_0.5.up"
    assert fold("once.0.K") == "once.0.K"
    assert fold.carries("layers.0.K", "layers.1.V") and not fold.carries("layers.1.K", "layers.1.V")


def test_a_group_stands_where_the_flow_enters_it() -> None:
    # in -> a -> M -> b -> F, and a and b are one box: F reads M, and nothing runs back into the box.
    pairs = {("in", "a"), ("a", "M"), ("M", "b"), ("b", "F")}
    order = {"in": 0, "a": 1, "M": 2, "b": 3, "F": 4}
    plain, carried = collapse(pairs, {("F", "a")}, {"a", "b"}, "G", order)
    assert plain == {("in", "G"), ("G", "M"), ("M", "F")}
    assert carried == {("F", "G")}


def test_circles_survive_reduction() -> None:
    assert reduced({("a", "b"), ("b", "a")}) == [("a", "b"), ("b", "a")]
    assert reduced({("a", "b"), ("b", "c"), ("a", "c")}) == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (999, "999"), (1000, "1k"), (99_949, "99.9k"), (1234567, "1.2M"), (195683328, "196M"), (999_999, "1M")],
)
def test_human_counts(count: int, text: str) -> None:
    assert human(count) == text
