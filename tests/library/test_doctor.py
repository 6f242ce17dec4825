"""`nldsl doctor` finds nothing wrong with any program of the library at its initial values."""

from __future__ import annotations

import pytest
from library.examined import examined, wrong

from nldsl.listing import listed

TOKENS = 48  # `make library` reads 1,024
PERIODS = {"periods": [8, 16], "period": 16, "fastest": 4, "slower": [8, 16]}


@pytest.mark.parametrize("program", [e.program for e in listed()])
def test_nothing_is_wrong_at_the_start(program: str) -> None:
    assert wrong(examined(program, TOKENS, **PERIODS)) == {}
