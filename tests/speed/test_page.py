"""What is said about measurements that were made up."""

from __future__ import annotations

from benchmarks.speed.measuring import spread
from benchmarks.speed.page import page

RATES = {"ours": [300.0, 400.0, 330.0], "peer": [100.0, 100.0, 110.0], "yardstick": [1000.0, 1000.0, 1000.0]}


def test_a_ratio_is_that_of_one_round() -> None:
    found = spread(zip(RATES["ours"], RATES["peer"], strict=True))
    assert found == {"median": 3.0, "least": 3.0, "most": 4.0}
    assert spread([(50.0, 100.0)], unit=0.25)["median"] == 2.0


def test_the_page_says_what_holds_and_what_is_missing() -> None:
    speed = {
        "length": 512,
        "load": 2.1,
        "compiled": {"ours": True, "peer": False, "yardstick": False},
        "versions": {"titans-pytorch": "0.5.5"},
        "tokens_per_second": RATES,
        "ratio": {"median": 3.0, "least": 3.0, "most": 4.0},
        "asked": 3,
        "holds": True,
        "peer_of_known": {"median": 0.5, "least": 0.4, "most": 0.6, "enough": False},
    }
    memory = {"length": 512, "ours": 2**21, "peer": 2**23, "ratio": 0.25, "asked": 0.125, "holds": False}
    absent = {"length": 512, "failed": "hope by them: not installed; pip install it"}
    cases = {
        "titans-16": {"speed": [speed], "memory": [memory], "commit": "abc"},
        "hope": {"speed": [absent], "memory": [], "commit": "abd"},
    }
    said = page({"machine": {"cpu": "slow"}, "rounds": 3, "cases": cases})
    assert "| titans-16 | 512 | 330* | 100 | 3.00 | 3.00, 4.00 | 3 | holds | 2.1 |" in said
    assert "| titans-16 | 512 | 2.0 | 8.0 | 0.250 | 0.125 | NOT YET |" in said
    assert "| 512 | 0.50 | 0.40, 0.60 | WRONGLY |" in said
    assert "- hope, 512 tokens:\n      hope by them: not installed; pip install it" in said
    assert "cpu slow, titans-pytorch 0.5.5." in said and "| abd |" in said
