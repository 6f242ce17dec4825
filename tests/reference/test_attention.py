"""Attention as a memory: the answer to q is the mean of the kept values, weighted by exp(q . k / sqrt(d)) (rule 17)."""

from __future__ import annotations

import math
from fractions import Fraction as F
from typing import Any

import pytest
from reference.worked import close, inputs_of, interpreter, numbers, run, tensor


def column(values: list[Any]) -> list[list[Any]]:
    """Numbers as a stream of shape [1]."""
    return [[value] for value in values]


def run_in_two(text: str, ports: dict[str, list[Any]], cut: int) -> list[Any]:
    """The outputs of two calls, `cut` ticks and then the rest, put together again."""
    machine = interpreter(text)
    first, state = machine.run(inputs_of({name: ticks[:cut] for name, ticks in ports.items()}))
    second, _ = machine.run(inputs_of({name: ticks[cut:] for name, ticks in ports.items()}), state)
    return [numbers(a[0]) + numbers(b[0]) for a, b in zip(first, second, strict=True)]


def attending(arguments: str = "", d: int = 1, clauses: str = "", reset: str = "") -> str:
    """Keys and values of d channels, read above and below the learn."""
    return f"""
    block Attending over k: [{d}], v: [{d}], q: [{d}], g: [] -> [{d}], [{d}] {{
      memory A = attention({arguments}) {reset}
      above = A(q)
      learn A : k -> v every token {clauses}
      return above, A(q)
    }}
    """


def flat(v: list[Any], g: list[Any] | None = None) -> dict[str, list[Any]]:
    """Queries 0, so that all weights are equal, with keys that would tell otherwise."""
    keys = [position + 1 for position in range(len(v))]
    return {"k": column(keys), "v": column(v), "q": column([0] * len(v)), "g": g or [0] * len(v)}


def test_equal_scores_are_equal_weights() -> None:
    """Keys (1, 0) and (2, 0), query (0, 1): both scores are 0, and the answer is the mean of the values."""
    ports = {"k": [[1, 0], [2, 0]], "v": [[1, 2], [3, 6]], "q": [[0, 1]] * 2, "g": [0, 0]}
    above, below = run(attending(d=2), ports)
    close(above, [[0, 0], [1, 2]])
    close(below, [[1, 2], [2, 4]])


def test_an_empty_memory_reads_zeros() -> None:
    """Above the first learn there is no pair."""
    above, below = run(attending(), flat([3, 5, 10]))
    close(above, column([0, 3, 4]))
    close(below, column([3, 4, 6]))


def test_scores_are_scaled_by_the_root_of_d() -> None:
    """d = 4, q . k = 2 ln 3, over sqrt(4): the score is ln 3, so the weights are 3/4 and 1/4."""
    text = attending(d=4)
    k = [[0, 0, 0, 0], [2, 0, 0, 0]]
    v = [[4, 0, 8, 0], [0, 4, 8, 1]]
    ports = {"k": k, "v": v, "q": [[math.log(3), 7, 7, 7]] * 2, "g": [0, 0]}
    _, below = run(text, ports)
    close(below, [[4, 0, 8, 0], [1, 3, 8, F(3, 4)]])


def test_a_numeric_case() -> None:
    """Three pairs of two channels, with the exponentials written out."""
    k = [[1, 0], [0, 1], [1, 1]]
    v = [[1, 0], [0, 1], [2, 2]]
    q = [[1, 2]] * 3
    _, below = run(attending(d=2), {"k": k, "v": v, "q": q, "g": [0] * 3})
    #  q . k = 1, 2, 3
    e1, e2, e3 = (math.exp(score / math.sqrt(2)) for score in (1, 2, 3))
    two, three = e1 + e2, e1 + e2 + e3
    close(below, [[1, 0], [e1 / two, e2 / two], [(e1 + 2 * e3) / three, (e2 + 2 * e3) / three]])


def test_a_window_of_one() -> None:
    """Only the newest pair is kept: below the learn today's value, above it yesterday's."""
    above, below = run(attending("window = 1"), flat([3, 5, 10]))
    close(above, column([0, 3, 5]))
    close(below, column([3, 5, 10]))


def test_a_window_of_two() -> None:
    """The oldest pair goes when a third comes."""
    above, below = run(attending("window = 2"), flat([3, 5, 10, 2]))
    close(above, column([0, 3, 4, F(15, 2)]))
    close(below, column([3, 4, F(15, 2), 6]))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_pairs_go_on_in_the_next_call(cut: int) -> None:
    """The kept pairs are the state."""
    for window, expected in (("window = 2", [3, 4, F(15, 2), 6]), ("", [3, 4, 6, 5])):
        close(run_in_two(attending(window), flat([3, 5, 10, 2]), cut)[1], column(expected))


def with_persistent(arguments: str, number: Any, ports: dict[str, list[Any]]) -> list[Any]:
    """Run with every persistent key and value set to one number."""
    machine = interpreter(attending(arguments))
    assert machine.parameters, "persistent pairs are parameters"
    for leaf in machine.parameters.values():
        leaf.data.fill_(float(number))
    outs, _ = machine.run(inputs_of(ports))
    return [numbers(out[0]) for out in outs]


def test_a_persistent_pair_is_in_every_answer() -> None:
    """Its value is 6; it answers alone while nothing else is kept."""
    above, below = with_persistent("persistent = 1", 6, flat([3, 6, 9]))
    #  6;  6 + 3;  6 + 3 + 6;  6 + 3 + 6 + 9
    close(above, column([6, F(9, 2), 5]))
    close(below, column([F(9, 2), 5, 6]))


def test_persistent_pairs_are_not_evicted() -> None:
    """Two of them, and a window of one: the window does not count them."""
    above, below = with_persistent("window = 1, persistent = 2", 6, flat([3, 6, 9]))
    close(above, column([6, 5, 6]))
    close(below, column([5, 6, 7]))


def test_a_persistent_key_is_scored_like_any_other() -> None:
    """Persistent key and value 2, query ln 3 / 2: its score is ln 3, a pair with key 0 has score 0."""
    ports = {"k": column([0]), "v": column([10]), "q": column([math.log(3) / 2]), "g": [0]}
    _, below = with_persistent("persistent = 1", 2, ports)
    #  3/4 * 2 + 1/4 * 10
    close(below, column([4]))


def test_persistent_pairs_without_a_number_are_none() -> None:
    """The default has no parameters."""
    assert not interpreter(attending()).parameters


def test_when_keeps_only_the_true_pairs() -> None:
    """A pair of a false tick is not kept, and evicts nothing."""
    text = attending("window = 2", clauses="when g > 0")
    _, below = run(text, flat([3, 100, 5, 100, 10], [1, 0, 1, 0, 1]))
    close(below, column([3, 3, 4, 4, F(15, 2)]))


def test_when_is_per_sequence() -> None:
    """Two sequences keep different pairs."""
    machine = interpreter(attending(clauses="when g > 0"))
    one, other = flat([3, 5, 10], [1, 1, 0]), flat([3, 5, 10], [0, 1, 1])
    outs, _ = machine.run({name: tensor([one[name], other[name]]) for name in one})
    close(outs[1], [column([3, 4, 4]), column([0, 5, F(15, 2)])])


def test_reset_forgets_the_pairs() -> None:
    """Before the tick's first read."""
    above, below = run(attending(reset="reset every 2 tokens"), flat([3, 5, 10, 2]))
    close(above, column([0, 3, 0, 10]))
    close(below, column([3, 4, 10, 6]))


def test_heads_attend_apart() -> None:
    """Head 0 scores both pairs alike; for head 1 the score of the second is ln 3 higher (d = 1 per head)."""
    text = """
    block Attending over k: [2], v: [2], q: [2] -> [2] {
      memory A[2] = attention()
      learn A : k |> split(2) -> v |> split(2) every token
      return A(q |> split(2)) |> merge
    }
    """
    ports = {"k": [[1, 0], [5, 1]], "v": [[2, 4], [4, 8]], "q": [[0, math.log(3)]] * 2}
    #  (2 + 4) / 2;  4 / 4 + 8 * 3/4
    close(run(text, ports)[0], [[2, 4], [3, 7]])


def test_values_may_be_wider_than_keys() -> None:
    """The scale goes by the keys' channels."""
    text = """
    block Attending over k: [1], v: [2], q: [1] -> [2] {
      memory A = attention()
      learn A : k -> v every token
      return A(q)
    }
    """
    ports = {"k": column([0, 1]), "v": [[4, 0], [8, 4]], "q": column([math.log(3)] * 2)}
    close(run(text, ports)[0], [[4, 0], [7, 3]])


def test_rotary_positions_see_only_the_distance() -> None:
    """With q = k = (1, 0) at angles that grow by 1 per tick, the score of age a is cos(a) / sqrt(2)."""
    text = """
    block Attending over k: [2], v: [2], q: [2] -> [2] {
      memory A = attention()
      learn A : rope(k) -> v every token
      return A(rope(q))
    }
    """
    ports = {"k": [[1, 0]] * 3, "v": [[1, 0], [0, 1], [0, 0]], "q": [[1, 0]] * 3}
    e0, e1, e2 = (math.exp(math.cos(age) / math.sqrt(2)) for age in (0, 1, 2))
    two, three = e0 + e1, e0 + e1 + e2
    close(run(text, ports)[0], [[1, 0], [e1 / two, e0 / two], [e2 / three, e1 / three]])
