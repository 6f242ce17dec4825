"""Identities of the paper and of the architectures it covers, as pairs of programs, and what is no identity.

A file says above its programs what holds between them:
  # equal: A B               they are the same function
  # twin: A B share=1.001    and no longer so with one number of B moved by 1e-3
  # different: A B           they are not, whatever is said of them; the settings of B may follow here too
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from nldsl.compiler.equivalence.comparing import Verdict, compare

import nldsl
from nldsl.commands.common import read_value

FILES = sorted(Path(__file__).parent.glob("*.nl"))
CLAIM = re.compile(r"^# (equal|twin|different): (\w+) (\w+)((?: \w+=\S+)*)$", re.MULTILINE)
ROUNDING = 1e-12  # what float64 makes of two orders of the same sums

Claim = tuple[Path, str, str, dict[str, Any]]


def claims(*kinds: str) -> list[Any]:
    """The claims of these kinds in all files."""
    found = []
    for path in FILES:
        for kind, a, b, settings in CLAIM.findall(path.read_text(encoding="utf-8")):
            if kind in kinds:
                pairs = (text.split("=") for text in settings.split())
                claim = (path, a, b, {name: read_value(value) for name, value in pairs})
                found.append(pytest.param(claim, id=f"{path.stem}-{a}-{b}{settings.replace(' ', '-')}"))
    return found


def verdict(claim: Claim) -> Verdict:
    path, a, b, settings = claim
    return compare(nldsl.load(f"{path}:{a}"), nldsl.load(f"{path}:{b}", **settings))


@pytest.mark.parametrize("claim", claims("equal"))
def test_the_same_function(claim: Claim) -> None:
    found = verdict(claim)
    assert found.equal, found.counterexample
    assert found.compared + found.skipped == 20
    assert found.skipped <= 2
    assert found.longest == 40
    assert "gradient" in found.kinds
    assert found.apart < ROUNDING


@pytest.mark.parametrize("claim", claims("twin", "different"))
def test_another_function(claim: Claim) -> None:
    found = verdict(claim)
    assert not found.equal
    assert found.counterexample is not None
    assert found.counterexample.difference.what.startswith("output")
    assert found.counterexample.draw.ticks <= 5


@pytest.mark.parametrize("claim", claims("twin"))
def test_a_twin_is_one_number_off(claim: Claim) -> None:
    path, a, b, settings = claim
    usual = dict(nldsl.load(f"{path}:{b}").hyper)
    [(name, value)] = settings.items()
    assert value - usual[name] == Fraction(1, 1000)
    assert f"# equal: {a} {b}\n" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_claims_something_and_has_a_twin(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kinds = [kind for kind, *_ in CLAIM.findall(text)]
    assert len(kinds) == len(re.findall(r"^# \w+: ", text, re.MULTILINE)), "a claim that can't be read"
    assert {"equal", "twin"} <= set(kinds)
