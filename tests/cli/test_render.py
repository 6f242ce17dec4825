"""Diagnostics as people and programs see them, and the pages behind their codes."""

from __future__ import annotations

import re
from importlib.resources import files
from textwrap import dedent

import pytest

from nldsl.codes import CODES
from nldsl.diagnostics import Diagnostic
from nldsl.explain import UnknownCode, explain
from nldsl.render import WIDEST, as_document, as_json, plain, render, width
from nldsl.spans import Span

NET = """\
net mlp(d, expand = 4, out = d) over x: [d] -> [out] {
  param up:   [d, expand * d]   = normal(d ^ -0.5)
  param down: [expand * d, out] = zeros
  return gelu(x @ up) @ down
}
"""


def at(line: int, column: int, end_column: int, end_line: int = 0, file: str = "hope.nl") -> Span:
    return Span(file, line, column, end_line or line, end_column)


def same(text: str, expected: str) -> None:
    assert text == dedent(expected).lstrip("\n")


def test_everything_a_diagnostic_can_say() -> None:
    found = Diagnostic(
        "NL301",
        "`x @ up` multiplies [dim = 32] by [d = 16, expand * d = 64]",
        at(4, 15, 21),
        "32 columns meet 16 rows",
        second=(at(2, 9, 11), "16 rows"),
        values=(("dim", "32"), ("d", "16")),
        alternatives=("a", "`b` or `c`"),
        hint="give `mlp` the size 32",
    )
    same(
        render([found], {"hope.nl": NET}),
        """
        error[NL301]: `x @ up` multiplies [dim = 32] by [d = 16, expand * d = 64]
         --> hope.nl:4:15
          |
        2 |   param up:   [d, expand * d]   = normal(d ^ -0.5)
          |         -- 16 rows
        3 |   param down: [expand * d, out] = zeros
        4 |   return gelu(x @ up) @ down
          |               ^^^^^^ 32 columns meet 16 rows
          |
          = where: dim = 32, d = 16
          = legal: `a`, `b` or `c`
          = help: give `mlp` the size 32

        1 error
        """,
    )


def test_a_far_second_place_has_its_own_snippet() -> None:
    far = {"hope.nl": NET + "\n" * 6 + "end"}
    found = Diagnostic("NL102", "`mlp` is defined twice", at(12, 1, 4), second=(at(1, 5, 8), "first here"))
    same(
        render([found], far),
        """
        error[NL102]: `mlp` is defined twice
          --> hope.nl:12:1
           |
        12 | end
           | ^^^
          ::: hope.nl:1:5
           |
         1 | net mlp(d, expand = 4, out = d) over x: [d] -> [out] {
           |     --- first here

        1 error
        """,
    )


def test_a_second_place_in_another_file_and_a_file_that_is_not_there() -> None:
    found = Diagnostic(
        "NL106", "no `mpl` in `b`", at(1, 5, 8), second=(at(1, 1, 2, file="b.nl"), "`b`"), severity="warning"
    )
    assert " ::: b.nl:1:1\n  |\n1 | x\n  | - `b`\n" in render([found], {"hope.nl": NET, "b.nl": "x"})
    text = render([found], {})
    assert text == "warning[NL106]: no `mpl` in `b`\n --> hope.nl:1:5\n ::: b.nl:1:1\n\n1 warning\n"


def test_both_places_in_one_line_and_a_long_gap() -> None:
    one = Diagnostic("NL301", "m", at(4, 15, 21), "here", second=(at(4, 25, 29), "there"))
    assert "  |               ^^^^^^ here\n  |                         ---- there\n" in render([one], {"hope.nl": NET})
    two = Diagnostic("NL301", "m", at(1, 1, 4), second=(at(5, 1, 2), ""))
    assert "  | ^^^\n...\n5 | }\n  | -\n" in render([two], {"hope.nl": NET})


def test_no_place_no_snippet() -> None:
    assert render([Diagnostic("NL002", "the file defines nothing", hint="write a `block`")], {"": "x"}) == (
        "error[NL002]: the file defines nothing\n = help: write a `block`\n\n1 error\n"
    )


@pytest.mark.parametrize(
    ("line", "span", "shown"),
    [
        ("\tx = y", at(1, 6, 7), "1 |     x = y\n  |         ^ here"),
        ("# 漢字 x", at(1, 6, 7), "1 | # 漢字 x\n  |        ^ here"),
        ("漢字", at(1, 1, 3), "1 | 漢字\n  | ^^^^ here"),
        ("# e\u0301 x", at(1, 6, 7), "1 | # e\u0301 x\n  |     ^ here"),
        ("x \u202e\x1b[2J y", at(1, 9, 10), "1 | x \ufffd\ufffd[2J y\n  |         ^ here"),
        ("x = y\r\nz", at(1, 5, 2, end_line=2), "1 | x = y\n  |     ^ here"),
        ("f(a,\n  b)  ", at(1, 1, 5, end_line=2), "1 | f(a,\n  | ^^^^ here"),
        ("x = ", at(1, 5, 5), "1 | x =\n  |     ^ here"),
        ("x\f\u2028y\nz", at(2, 1, 2), "2 | z\n  | ^ here"),
        ("x", at(1, 7, 9), "1 | x\n  |  ^ here"),
        ("x\n", at(2, 1, 1), "2 |\n  | ^ here"),
    ],
)
def test_odd_lines(line: str, span: Span, shown: str) -> None:
    text = render([Diagnostic("NL010", "m", span, "here")], {"hope.nl": line})
    assert text == f"error[NL010]: m\n --> {span}\n  |\n{shown}\n\n1 error\n"


def test_a_line_beyond_the_end_is_named_and_not_shown() -> None:
    assert render([Diagnostic("NL010", "m", at(9, 1, 2))], {"hope.nl": NET}) == (
        "error[NL010]: m\n --> hope.nl:9:1\n\n1 error\n"
    )


@pytest.mark.parametrize("start", [1, 200, 400, 797])
def test_a_long_line_is_cut_around_the_place(start: int) -> None:
    line = "漢" * 100 + "a" * (start - 101) + "BBB" if start > 101 else "." * (start - 1) + "BBB"
    line += "c" * 500
    text = render([Diagnostic("NL010", "m", at(1, start, start + 3))], {"hope.nl": line})
    source, under = (row[4:] for row in text.split("\n")[3:5])
    assert width(source) <= WIDEST + 3
    assert under.count("^") == 3
    before = source.split("BBB")[0]
    assert width(before) == under.index("^")


def test_color_changes_nothing_but_color() -> None:
    found = [Diagnostic("NL301", "m", at(4, 15, 21), "here", second=(at(2, 9, 11), "there"), hint="h")]
    text = render(found, {"hope.nl": NET}, color=True)
    assert "\x1b[1;31m^^^^^^ here\x1b[0m" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text) == render(found, {"hope.nl": NET})


def test_totals() -> None:
    severities = ["error", "warning", "error", "note"]
    text = render([Diagnostic("NL010", "m", severity=s) for s in severities], {})
    assert text.endswith("\n\n2 errors, 1 warning, 1 note\n")
    assert render([], {}) == ""


def test_plain_keeps_what_is_harmless() -> None:
    assert plain("λ → 漢字\tx") == "λ → 漢字    x"


def test_json() -> None:
    found = Diagnostic(
        "NL301", "m", at(4, 15, 21), "here", (at(2, 9, 11), "there"), (("dim", "32"),), ("a",), "h", "warning"
    )
    assert as_json([found]) == [
        {
            "code": "NL301",
            "severity": "warning",
            "message": "m",
            "file": "hope.nl",
            "line": 4,
            "column": 15,
            "end_line": 4,
            "end_column": 21,
            "label": "here",
            "second": {
                "file": "hope.nl", "line": 2, "column": 9, "end_line": 2, "end_column": 11, "label": "there",
            },
            "values": [{"name": "dim", "value": "32"}],
            "alternatives": ["a"],
            "hint": "h",
        }
    ]  # fmt: skip
    nowhere = as_document([Diagnostic("NL002", "m")])
    assert nowhere["format_version"] == 1
    assert [nowhere["diagnostics"][0][key] for key in ("file", "line", "end_column", "second")] == [None] * 4


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page(code: str) -> None:
    page = explain(code)
    assert page.startswith(f"# {code}: {CODES[code]}\n\n")
    assert len(page.splitlines()) <= 20
    assert max(map(len, page.splitlines())) <= 120
    assert page.count("```") in (4, 2), "one block that is wrong, and one that is right or a line that says it"


def test_every_page_has_a_code() -> None:
    pages = {page.name for page in (files("nldsl") / "pages").iterdir()}
    assert pages == {f"{code}.md" for code in CODES}


@pytest.mark.parametrize("code", ["nl301", "301", " NL301 "])
def test_codes_as_people_type_them(code: str) -> None:
    assert explain(code) == explain("NL301")


def test_unknown_codes() -> None:
    with pytest.raises(UnknownCode, match=r"there is no code `NL311`; did you mean `NL[0-9]+`"):
        explain("NL311")
    with pytest.raises(UnknownCode, match="the codes run from NL001 to NL904"):
        explain("hope")
