"""Comparing programs: what belongs together, what is drawn, what counts as different, and how small it is shown."""

from __future__ import annotations

import math

import pytest
import torch
from nldsl.compiler.equivalence import counterexample, draws
from nldsl.compiler.equivalence.comparing import Difference, Verdict, compare, gap
from nldsl.compiler.equivalence.draws import Draw
from nldsl.compiler.equivalence.pairing import UnlikeError, tied
from torch import Tensor

import nldsl
from nldsl.graph import LevelGraph


def block(body: str, over: str = "x: [3]", gives: str = "[3]") -> LevelGraph:
    return nldsl.load_text(f"block B over {over} -> {gives} {{ {body} }}", "B")


def compared(a: str, b: str, over: str = "x: [3]", gives: str = "[3]", count: int = 12) -> Verdict:
    return compare(block(a, over, gives), block(b, over, gives), count=count)


def difference(found: Verdict) -> Difference:
    assert found.counterexample is not None
    return found.counterexample.difference


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# What counts as different


def test_a_gap_is_relative_to_numbers_beyond_one() -> None:
    found, fine = gap(numbers(0.5, 1000), numbers(0.25, 1001), timed=False)
    assert fine
    assert torch.allclose(found, numbers(0.25 / 1001, 1 / 1001))


def test_what_a_sequence_shows_later_changes_nothing_earlier() -> None:
    a, b = numbers(0, 0, 1e6, 0).reshape(2, 2), numbers(0.5, 0, 1e6, 0.5).reshape(2, 2)
    found, _ = gap(a, b, timed=True)
    assert torch.allclose(found, numbers(0.5, 0, 0, 5e-7).reshape(2, 2))
    wide, _ = gap(a[..., None], b[..., None], timed=True)
    assert torch.equal(wide[..., 0], found)


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(strange: float) -> None:
    found, fine = gap(numbers(1, strange, 2)[None], numbers(1, 5, 2)[None], timed=True)
    assert fine
    assert found.tolist() == [[0, math.inf, 0]]
    found, fine = gap(numbers(1, strange, 2)[None], numbers(3, math.nan, 5)[None], timed=True)
    assert not fine, "both being no number says nothing"
    assert found.tolist() == [[2 / 3, 0, 0]], "nor does what comes after"


def test_near_an_overflow_nothing_can_be_said() -> None:
    found, fine = gap(numbers(math.inf), numbers(1e300), timed=False)
    assert (found.tolist(), fine) == ([0.0], False)


# The verdict


def test_equal_programs() -> None:
    found = compared("return (x + x) * x", "return 2 * x^2")
    assert found.equal
    assert found.apart < 1e-14
    assert (found.compared, found.skipped, found.shortest, found.longest) == (12, 0, 1, 40)
    assert found.kinds == ("output", "gradient")


def test_a_difference_of_the_gradients_alone() -> None:
    found = compared("return x * x", "return x * stop(x)")
    assert not found.equal
    said = difference(found)
    assert (said.what, said.tick) == ("gradient by x", 0)
    assert torch.allclose(said.first, 2 * said.second)
    assert compared("return stop(x) * stop(x)", "return stop(x)^2").equal, "no gradient on either side"


def test_a_difference_of_the_gradient_by_a_parameter() -> None:
    table = "memory E = embed(5, 3) y = E(ids)"
    found = compared(f"{table} return y", f"{table} return 3 * stop(y) - 2 * y", "ids: int")
    said = difference(found)
    assert (said.what, said.tick) == ("gradient by E.table", None)
    assert torch.allclose(said.second, -2 * said.first)


def test_what_stands_behind_zeros_at_the_start_is_seen() -> None:
    assert not compared("return x + mlp(3)(x)", "return x + 2 * mlp(3)(x)").equal
    assert not compared("return rmsnorm(x)", "memory N = rmsnorm return N(x) * 0 + x / sqrt(mean(x^2) + 1e-6)").equal


def test_a_key_that_comes_again_is_tried() -> None:
    text = "state before: [3] = 0 again = where(sum((x - before)^2) == 0, 1, 0) before <- x return again * x"
    found = compared(text, "return 0 * x")
    assert found.counterexample is not None
    assert found.counterexample.draw.ticks == 2


def test_what_only_shows_late_is_found() -> None:
    found = compared("return x", "state n = 0 n <- n + 1 return where(n < 7, x, 0)")
    assert not found.equal
    assert found.counterexample is not None
    assert found.counterexample.draw.ticks == 7
    assert difference(found).tick == 6


def test_losses_are_compared_where_both_have_one() -> None:
    text = """
    model A over ids: int {
      logits = ids |> embed(5, 4) |> linear(5)
      loss = FACTOR * cross_entropy(logits, next(ids))
      learn * minimizing loss by gd(0.1) every step
      return logits
    }"""
    one, two = (nldsl.load_text(text.replace("FACTOR", factor)) for factor in ("1", "2"))
    assert compare(one, one).kinds == ("output", "losses", "gradient")
    found = compare(one, two)
    assert (difference(found).what, difference(found).tick) == ("losses", 1)
    silent = block("return ids |> embed(5, 4) |> linear(5)", "ids: int", "[5]")
    assert compare(one, silent).equal


def test_the_tolerance_decides() -> None:
    one, two = block("return x"), block("return (1 + 1e-6) * x")
    assert not compare(one, two).equal
    assert compare(one, two, tolerance=1e-5).equal


def test_draws_without_a_number_are_not_counted() -> None:
    nothing = compared("return log(-x^2 - 1)", "return sqrt(-x^2 - 1)")
    assert (nothing.equal, nothing.compared, nothing.skipped) == (False, 0, 12)
    assert nothing.counterexample is None
    some = compared("return 1 / (max(x) - 0.5 + abs(max(x) - 0.5)) * x", "return x / (2 * relu(max(x) - 0.5))")
    assert some.equal
    assert 0 < some.skipped < 12
    assert some.compared + some.skipped == 12
    one = difference(compared("return log(x)", "return log(abs(x))"))
    assert one.first.isnan().any()
    assert one.second.isfinite().all()


def test_the_seed_decides() -> None:
    one, two = block("return x"), block("return relu(x)")
    first, again = compare(one, two, seed=3), compare(one, two, seed=3)
    assert first.apart == again.apart
    assert difference(first).first.equal(difference(again).first)
    assert compare(one, two, seed=4).apart != first.apart


# What belongs together


def test_parameters_by_name_then_by_order_and_shape() -> None:
    one = block("memory A = matrix(3) memory B = matrix(3) memory G = rmsnorm return G(B(A(x)))")
    two = block("memory G = rmsnorm memory B = matrix(3) memory C = matrix(3) return G(C(B(x)))")
    assert tied(one, two) == {"A.w": "C.w", "B.w": "B.w", "G.gain": "G.gain"}
    assert not compare(one, two).equal
    pairs = {"A.w": "B.w", "B.w": "C.w"}
    assert tied(one, two, pairs) == pairs | {"G.gain": "G.gain"}
    assert compare(one, two, pairs=pairs).equal
    three = block("memory N = rmsnorm memory U = matrix(3) memory V = matrix(3) return N(V(U(x)))")
    assert tied(one, three) == {"A.w": "U.w", "B.w": "V.w", "G.gain": "N.gain"}
    assert compare(one, three).equal


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({}, "have no partner: of `B` `M.w` [3, 3]"),
        ({"M.w": "C.w"}, "`B` has no parameter `C.w`; it has `G.gain`"),
        ({"M.w": "G.gain"}, "`M.w` [3, 3] and `G.gain` [3] have different shapes"),
    ],
)
def test_a_parameter_without_a_partner(pairs: dict[str, str], said: str) -> None:
    one, two = block("memory M = matrix(3) return M(x)"), block("memory G = rmsnorm return G(x)")
    with pytest.raises(UnlikeError) as error:
        compare(one, two, pairs=pairs)
    assert said in str(error.value)


def test_a_partner_that_can_be_named() -> None:
    one = block("memory M = matrix(3) return M(x)")
    two = block("memory N = matrix(3) memory O = matrix(3) return N(O(x))")
    with pytest.raises(UnlikeError, match=r"`--pair M\.w=N\.w`"):
        tied(one, two)
    with pytest.raises(UnlikeError, match="in two pairs"):
        tied(two, one, {"N.w": "M.w", "O.w": "M.w"})


@pytest.mark.parametrize(
    ("over", "body", "said"),
    [
        ("x: [4]", "return x", "`B` is over `[3]` and `B` is over `[4]`: the inputs"),
        ("ids: int", "return ids |> embed(5, 3)", "`B` is over `[3]` and `B` is over `int`: the inputs"),
        ("x: [3], y: [3]", "return x + y", "over `[3]` and `B` is over `[3]`, `[3]`: the inputs"),
        ("x: [3]", "return sum(x)", "`B` returns `[3]` and `B` returns `[]`: the outputs"),
    ],
)
def test_inputs_and_outputs_must_fit(over: str, body: str, said: str) -> None:
    gives = "[]" if "sum" in body else "[4]" if "4" in over else "[3]"
    with pytest.raises(UnlikeError) as error:
        compare(block("return x"), block(body, over, gives))
    assert said in str(error.value)


def test_names_of_inputs_do_not_matter() -> None:
    assert compare(block("return x - 2 * y", "x: [3], y: [3]"), block("return y - x - x", "y: [3], x: [3]")).equal


# What is drawn


def test_draws_are_of_all_lengths_and_within_a_vocabulary() -> None:
    one, two = (block(f"return ids |> embed({n}, 3) |> rmsnorm", "ids: int") for n in (5, 9))
    made = [draws.drawn(one, two, i, 20, 40, 0) for i in range(20)]
    assert [d.ticks for d in made] == sorted(d.ticks for d in made)
    assert (made[0].ticks, made[-1].ticks) == (1, 40)
    assert {len(d.inputs[0]) for d in made} == {1, 2, 3}
    seen = torch.cat([d.inputs[0].flatten() for d in made])
    assert seen.unique().tolist() == [0, 1, 2, 3, 4], "the smaller of the two vocabularies, and all of it"
    gains = torch.stack([d.parameters["rmsnorm.gain"] for d in made])
    assert 0.1 < float(gains.std()) < 0.5
    assert abs(float(gains.mean()) - 1) < 0.2
    assert draws.drawn(one, two, 0, 1, 40, 0).ticks == 40


# Made small


def test_a_counterexample_becomes_as_small_as_it_can() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, 9, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    x[1, 5, 2] = 7.3
    tries = 0

    def differs(draw: Draw) -> bool:
        nonlocal tries
        tries += 1
        return bool((draw.inputs[0][:, :, 2] > 5).any())

    small = counterexample.smaller(Draw((x, y), {"w": torch.tensor([0.123])}), differs)
    assert small.inputs[0].tolist() == [[[0, 0, 7, 0]]]
    assert small.inputs[1].tolist() == [[[0, 0, 0, 0]]]
    assert small.parameters["w"].tolist() == [0]
    assert tries <= counterexample.TRIES


def test_what_can_not_be_made_smaller_stays() -> None:
    x = torch.tensor([[[0.51239], [0.25]]], dtype=torch.float64)

    def differs(draw: Draw) -> bool:
        return draw.inputs[0].shape == x.shape and torch.equal(draw.inputs[0], x)

    assert torch.equal(counterexample.smaller(Draw((x,), {}), differs).inputs[0], x)
