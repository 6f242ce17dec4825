"""The level table: which levels a program has (rule 18), what they keep, and how far back they learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nldsl
from nldsl import modules
from nldsl.parameters import learned_parameters
from nldsl.table import LevelTable, level_table

EXAMPLES = Path(__file__).parents[2] / "examples"

LINEAR = """
model Linear over x: [4], y: [2] {
  memory W = matrix(4, 2)
  loss = l2(W(x), y)
  learn W minimizing loss by RULE every step
  return W(x)
}
"""

LINEAR_ATTENTION = """
model Fast over ids: int {
  x = ids |> embed(8, 4)
  memory M = matrix(4) from zeros
  learn M : linear(4)(x) -> linear(4)(x) minimizing dot by RULE every token
  logits = M(linear(4)(x)) |> linear(8)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""

TRANSFORMER = """
from std.transformer import Attention, FeedForward
model Small(depth = 2) over ids: int {
  x = ids |> embed(8, 4)
  repeat depth {
    x = x + Attention(4, 2, window = 3)(x)
    x = x |> FeedForward(4)
  }
  logits = x |> linear(8)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by RULE every step
  return logits
}
"""

# One block whose memory learns as the clauses say, inside a model that learns by plain descent.
ONE = """
model One over ids: int {
  x = ids |> embed(8, 4)
  memory M[2] = matrix(2)
  k = x |> split(2)
  learn M : k -> k CLAUSES
  y = M(k) |> merge
  loss = cross_entropy(y |> linear(8), next(ids))
  learn * minimizing loss by gd(0.1) every step THROUGH
  return y
}
"""


def table(text: str, **hyper: object) -> LevelTable:
    graph = nldsl.load_text(text, **hyper)
    found = level_table(graph)
    assert sum(row.parameters for row in found) == sum(p.size for p in learned_parameters(graph).values())
    return found


def one(clauses: str, through: str = "") -> LevelTable:
    return table(ONE.replace("CLAUSES", clauses).replace("THROUGH", through))


@pytest.mark.parametrize(("rule", "levels"), [("gd(0.1)", 1), ("momentum(0.1)", 2), ("adam(0.1)", 2)])
def test_a_linear_model_has_a_level_for_itself_and_one_for_what_its_optimizer_keeps(rule: str, levels: int) -> None:
    found = table(LINEAR.replace("RULE", rule))
    assert len(found) == levels
    assert found[-1].members == ("W",)
    assert found[-1].parameters == 8
    assert found[-1].fed_by == tuple(range(1, levels))


def test_adams_moments_share_a_level() -> None:
    found = table(LINEAR.replace("RULE", "adam(0.1)"))
    assert found[0].members == ("learn W adam.m", "learn W adam.v")
    assert (found[0].parameters, found[0].state, found[0].shared) == (0, 0, 16)
    assert (found[0].fed_by, found[0].reads, found[0].reach) == ((), (2,), "none")


@pytest.mark.parametrize(("rule", "levels"), [("gd(1)", 2), ("momentum(1)", 3)])
def test_linear_attention_and_its_projections(rule: str, levels: int) -> None:
    found = table(LINEAR_ATTENTION.replace("RULE", rule))
    assert len(found) == levels
    memory, outer = found[levels - 2], found[levels - 1]
    assert memory.members == ("M",)
    assert (memory.parameters, memory.state) == (0, 16)  # it starts from zeros, which is no parameter
    assert (str(memory.period), memory.reads, memory.reach) == ("every token", (levels,), "its tick")
    assert (str(outer.period), outer.state, outer.reach) == ("every step", 0, "whole sequence")
    if levels == 3:
        assert found[0].members == ("learn M momentum.s",)
        assert (found[0].state, found[0].shared) == (16, 0)
        assert memory.fed_by == (1,)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize(("rule", "levels"), [("gd(0.1)", 2), ("adamw(0.1)", 3)])
def test_attention_is_one_level_at_any_depth(rule: str, levels: int, depth: int) -> None:
    found = table(TRANSFORMER.replace("RULE", rule), depth=depth)
    assert len(found) == levels
    name = "layers.0.attention.attention_rule.A" if depth == 1 else f"layers.*.attention.attention_rule.A x{depth}"
    assert found[0].members == (name,)
    assert str(found[0].period) == "closed form"
    assert found[0].reach == "none"
    assert found[0].state == depth * 3 * (2 + 2) * 2  # a window of 3 pairs of [2] and [2], 2 heads
    assert found[0].grows == 0


def test_the_transformer_of_the_library() -> None:
    found = level_table(nldsl.load("std.transformer", depth=3, dim=8))
    assert [len(row.members) for row in found][:2] == [1, 2]
    assert (found[0].state, found[0].grows) == (0, 3 * (8 + 8))  # no window: it keeps every pair
    assert "grows by 48 per token" in str(found)


@pytest.mark.parametrize(
    ("clauses", "state", "reach"),
    [
        ("minimizing l2 by gd(0.1) every token", 8, "its tick"),
        ("minimizing l2 by gd(0.1) every 4 tokens", 8 + 8, "its tick"),  # and the window's sum
        ("minimizing l2 by gd(0.1) every token hold gradient for 16 tokens", 8 + 8, "chunk of 16"),  # and the held copy
        ("minimizing l2 by gd(0.1) every 2 tokens hold state for 16 tokens", 8 + 8 + 8, "chunk of 16"),
        ("minimizing l2 by gd(0.1) every token over last 64 tokens", 8 + 63 * 4, "last 64 tokens"),  # k, 63 times
        ("minimizing l2 by gd(0.1) every 3 tokens times 2", 8 + 2 * 4, "its tick"),
    ],
)
def test_what_a_level_keeps_and_how_far_back_it_learns(clauses: str, state: int, reach: str) -> None:
    found = one(clauses)
    assert (found[0].members, found[0].state, found[0].reach) == (("M",), state, reach)


def test_a_training_step_may_reach_less_far() -> None:
    found = one("minimizing l2 by gd(0.1) every token", "through 32 tokens")
    assert found[1].reach == "32 tokens"


LOSS = """
model Chain over ids: int {
  level slow = every 8 tokens
  x = ids |> embed(8, 4)
  memory A, B = matrix(4)
  x = x + A(x)
  x = x + B(x)
  logits = x |> linear(8)
  loss = cross_entropy(logits, next(ids))
  learn A minimizing loss by gd(0.1) every 4 tokens
  learn B minimizing loss by momentum(0.1) at slow CLAUSE
  learn * minimizing loss by gd(0.1) every step
  return logits
}
"""


def test_learning_from_the_loss_in_segments() -> None:
    found = table(LOSS.replace("CLAUSE", ""))
    assert [row.members for row in found[:3]] == [("A",), ("learn B momentum.s",), ("B",)]
    assert [row.reach for row in found] == ["segment of 4", "none", "segment of 4", "whole sequence"]
    assert [row.name for row in found] == ["", "slow", "slow", ""]
    assert [row.state for row in found] == [16, 16, 16 + 16, 0]  # B's window is two segments long: their sum waits
    assert [row.fed_by for row in found] == [(), (), (2,), ()]
    assert found[0].reads == (3, 4)


def test_through_reaches_over_several_segments() -> None:
    found = table(LOSS.replace("CLAUSE", "through 12 tokens"))
    assert found[2].reach == "last 12 tokens"


def test_starts_that_are_learned_are_a_level_where_nothing_else_is() -> None:
    """MAML (eq 28): the fast weights, and the start that the outer loss learns."""
    found = level_table(nldsl.load("std.maml:MAMLRegression"))
    assert [row.members for row in found] == [("y.maml.F",), ("learn * starts",)]
    assert [str(row.period) for row in found] == ["every 10 tokens", "every step"]
    assert [row.reads for row in found] == [(), (1,)]
    assert [row.reach for row in found] == ["its tick", "whole sequence"]


def test_what_an_optimizer_keeps_is_inner_to_the_starts_it_teaches() -> None:
    text = (modules.library() / "maml.nl").read_text(encoding="utf-8").replace("gd(outer_lr)", "adam(outer_lr)")
    found = table(text)
    assert [row.members for row in found][1:] == [("learn * adam.m", "learn * adam.v"), ("learn * starts",)]
    assert found[2].fed_by == (2,)


@pytest.mark.parametrize("start", ["", "from zeros"])
def test_starts_stand_on_the_level_of_what_is_learned_with_them(start: str) -> None:
    found = table(LINEAR_ATTENTION.replace("RULE", "gd(1)").replace("from zeros", start))
    assert len(found) == 2
    assert ("learn * starts" in found[1].members) == (not start)  # from zeros there is no start to learn


def test_states_convolutions_and_windows_are_counted() -> None:
    found = table("""
model Kept over ids: int {
  x = ids |> embed(8, 4)
  state total[2]: [2] = 0
  total <- total + (x |> split(2))
  memory W = matrix(4)
  W <- 0.5 * W + window_mean(sum(x)) every 4 tokens
  y = x |> conv(3)
  loss = cross_entropy(W(y) + merge(total) |> linear(8), next(ids))
  learn * minimizing loss by gd(0.1) every step
  return y
}
""")
    state = {row.members[0]: row.state for row in found}
    assert state["total"] == 4  # two heads of [2]
    assert state["W"] == 16 + 1  # its running copy, and the open window of one number
    assert found[-1].state == 2 * 4  # the last two inputs of the convolution, with its kernel
    assert [row.reach for row in found] == ["none", "none", "whole sequence"]


def test_memories_inside_optimizers_have_parameters_of_their_own() -> None:
    text = ONE.replace("CLAUSES", "minimizing l2 by deep_momentum(0.1) every token").replace("THROUGH", "")
    found = table(text)
    inner = next(row for row in found if row.members == ("learn M deep_momentum.b",))
    assert inner.parameters > 0
    assert inner.state == inner.parameters  # a running copy of each
    assert inner.reach == "its update"


def test_hope(golden: Callable[[str, str], None]) -> None:
    golden("hope_levels.txt", str(level_table(nldsl.load(str(EXAMPLES / "hope.nl")))) + "\n")


def test_rows_as_data() -> None:
    first = table(LINEAR.replace("RULE", "momentum(0.1)")).as_dicts()[0]
    assert first == {
        "number": 1, "period": "every step", "name": "", "members": ("learn W momentum.s",), "parameters": 0,
        "state": 0, "grows": 0, "shared": 8, "fed_by": (), "reads": (2,), "reach": "none",
    }  # fmt: skip


def test_it_can_be_asked_for_twice() -> None:
    graph = nldsl.load("examples/two_levels.nl", dim=8)
    assert str(nldsl.level_table(graph)) == str(nldsl.level_table(graph))
