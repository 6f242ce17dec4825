"""Deep memories: every rule is its oracle."""

from __future__ import annotations

import pytest

from .comparing import agree, carried, differences
from .rows_deep import ROWS

# Tracing takes the longer the more a chunk holds: these three have all kinds of writes, windows and states.
TRACED = ("Moneta", "LaCTMuon", "TNTUnprojected")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("d", "ticks"), [(2, 1), (3, 11)])
def test_a_rule_is_its_oracle(name: str, d: int, ticks: int) -> None:
    """11 tokens are two chunks and a piece of one."""
    agree(differences(ROWS[name], ticks, seed=d, d=d))


@pytest.mark.parametrize("name", ROWS)
def test_also_token_by_token(name: str) -> None:
    agree(differences(ROWS[name], 7, seed=7, d=4, only="recurrence"))


@pytest.mark.parametrize("name", TRACED)
def test_also_as_traced_at_once(name: str) -> None:
    agree(differences(ROWS[name], 10, seed=8, d=3, patience=0))


@pytest.mark.parametrize("name", ROWS)
def test_a_second_call_goes_on(name: str) -> None:
    """Cut within a chunk, a window and a shard."""
    agree(carried(ROWS[name], 10, 6, d=2))
