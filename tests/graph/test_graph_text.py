"""The text of a level graph: it reads back to an equal graph, and anything else is one clear error."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

import nldsl
from nldsl.graph import LevelGraph
from nldsl.graph_text import read_graph, show_graph
from nldsl.modules import library

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.nl"))
MODELS = [
    "std.delta", "std.linear_attention", "std.titans", "std.transformer", "std.ttt:DeepTTT", "std.hope:HopeAttention",
]  # fmt: skip

EVERYTHING = '''
"""Some of everything that a record can say."""
model Everything(rates = [0.5, 1e-3], on = true) over ids: int {
  level slow = every 8 tokens
  x = ids |> embed(8, 4)
  memory A[2] = attention(window = 5, persistent = 2)
  learn A : rope(split(x, 2)) -> split(x, 2) every token
  memory M = matrix(4) from 0.5 * start reset every 64 tokens
  memory N = mlp(4)
  state s: [4] = 1 reset when sum(x) > 100
  s <- 0.9 * s + x
  learn M : x -> s minimizing l2 retaining decay(sigmoid(window_mean(mean(x)))) by m3(0.1, slow_every = 2)
    every 2 tokens
    hold state for 4 tokens when sum(x) > 0 weighted 0.5
  learn N minimizing loss by gd(0.1) at slow through 16 tokens
  memory O = matrix(4)
  learn O : M(x) -> N(x) minimizing huber(1) by momentum(0.1) every token over last 3 tokens weighted 0.5
  logits = x + merge(A(split(x, 2))) + O(x) |> linear(8)
  loss = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(4e-4, decay = 0.1) every step
  return logits, loss_like(x)
}
net loss_like over x: [n] -> [] { return sum(x) }
'''

SMALL = """\
model Small over x: [2], y: [2] {
  memory W = matrix(2)
  loss = sum((W(x) - y) ^ 2)
  learn W minimizing loss by gd(0.1) every step
  return W(x)
}
"""


def again(graph: LevelGraph) -> None:
    text = show_graph(graph)
    other = read_graph(text)
    assert other == graph
    assert show_graph(other) == text


@pytest.mark.parametrize("program", [str(path) for path in EXAMPLES] + MODELS)
def test_every_program_reads_back(program: str) -> None:
    again(nldsl.load(program))


def test_every_kind_of_value_reads_back() -> None:
    again(nldsl.load_text(EVERYTHING))


NUMBERS = [0, -3, 10**4000, Fraction(9, 10), Fraction(-1, 10**9), Fraction(3), 0.1, 1e300, 5e-324, float("inf")]
WORDS = ["", "two words", "true", "-1", "1/2", "inf", 'a "quoted" \\ one', "ä\u2028\n@x:1:2-3:4"]


@pytest.mark.parametrize("value", [*NUMBERS, *WORDS, True, False, None, [], [1, [0.5, True]], (1, ("a",))])
def test_values_keep_their_kind(value: object) -> None:
    graph = nldsl.load_text(SMALL)
    graph.hyper = (("given", value),)
    ((name, found),) = read_graph(show_graph(graph)).hyper
    assert (name, found, type(found)) == ("given", value, type(value))


def test_places_of_any_name_read_back() -> None:
    text = show_graph(nldsl.load_text(SMALL))
    for file in ("C:\\my models\\one.nl", 'a"b.nl', "(1)@x:2.nl", "größe.nl", "new\nline.nl"):
        quoted = '"' + file.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        graph = read_graph(text.replace("<text>", quoted))
        assert graph.memories["W"].span.file == file
        again(graph)


def test_the_text_is_readable(golden: Callable[[str, str], None]) -> None:
    text = show_graph(nldsl.load_text(SMALL))
    golden("small_graph.txt", text.replace(str(library()) + "/", "stdlib/"))


WRONG = [
    ("nldsl graph 1", "nldsl graph 2", "line 1: a graph's text begins with `nldsl graph 1`"),
    ("program Small", "program", "line 2:"),
    ("kind=model", "kind=3", "line 2:"),
    ("    memory W", "    memories W", "there is no record `memories`"),
    ("    memory W", "      memory W", "a port holds no memory"),
    ("    port x", "      port x", "indented too far"),
    ("heads=0", "heads=none", "`heads` of a memory can't be None"),
    ("heads=0", "heads=0 heads=0", "`heads` of a memory is twice here"),
    ("heads=0", "horns=0", "`horns` of a memory is no field of it"),
    ("form=weights ", "", "a memory needs `form`"),
    ("op=matmul", "op matmul", "`=` belongs here, not `matmul`"),
    ("(x, %1)", "(x, %1", "belongs here"),
    ("(x, %1)", "(x, )x", "belongs here"),
    ("(x, %1)", "(x, %1/0)", "make no graph"),
    ("(x, %1)", "(x, 1/0)", "can't be read"),
    ("(x, %1)", "(x, %99)", "make no graph"),
    ("op=matmul", "op=magic", "make no graph"),
    ("\nrules\n", "\nrulers\n", "the section `rules` belongs here"),
    ("\ntick\n", "\n", "the section `tick` belongs here"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_a_wrong_text_is_one_clear_error(old: str, new: str, said: str) -> None:
    text = show_graph(nldsl.load_text(SMALL))
    assert old in text
    with pytest.raises(ValueError, match=r"^(line [0-9]+: |the records of this text make no graph)") as found:
        read_graph(text.replace(old, new, 1))
    assert said in str(found.value)


@pytest.mark.parametrize("line", range(1, 30))
def test_a_text_that_ends_early_or_lacks_a_line_never_fails_otherwise(line: int) -> None:
    lines = show_graph(nldsl.load_text(SMALL)).split("\n")
    for text in ("\n".join(lines[:line]), "\n".join(lines[:line] + lines[line + 1 :])):
        try:
            read_graph(text)
        except ValueError as error:
            assert re.match("line |the records", str(error))


DEEP = "nldsl graph 1\nprogram A kind=a loss=a\nhyper a "


@pytest.mark.parametrize("text", ["", "\n\n", "nldsl graph 1", DEEP + "(" * 9999, DEEP + "rule(" * 9999])
def test_no_text_at_all(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line "):
        read_graph(text)
