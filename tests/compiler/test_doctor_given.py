"""Which inputs of a program are rates, and no data."""

from __future__ import annotations

import pytest
from nldsl.compiler.doctor.given import rates_from_outside

import nldsl


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("std.delta:CombaRule", ["alpha", "beta"]),  # b and c also change what is read
        ("std.longhorn:LonghornRule", ["beta"]),  # through a quotient with the key
        ("std.titans:TitansRule", ["eta", "theta", "alpha"]),
        ("std.lact:LaCTRule", ["lr0", "lr1", "lr2", "beta"]),  # `weighted`
        ("std.atlas:OmegaRule", ["alpha", "gamma"]),  # and `over last`
        ("std.self_modifying:AdaptiveProjectionsRule", []),  # it makes its own
    ],
)
def test_inputs_that_are_only_rates(program: str, expected: list[str]) -> None:
    sizes = {"d": 4, "n": 4} if "atlas" in program else {"d": 4}
    assert rates_from_outside(nldsl.load(program, **sizes)) == expected
