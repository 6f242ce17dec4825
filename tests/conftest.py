"""`--bless` accepts what the programs say today as what they are expected to say: read the diff afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Golden = Callable[[str, str], None]

# The tensors of a test are small, and the workers share the cores: torch's own threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `benchmarks` is no installed package, and the root of the repository can't be on the path, as its `compiler/` would
# hide that of the tests: here it is only its folder.
benchmarks = ModuleType("benchmarks")
benchmarks.__path__ = [str(Path(__file__).resolve().parents[1] / "benchmarks")]
sys.modules.setdefault("benchmarks", benchmarks)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the expected texts instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with the file of that name in `tests/golden`."""
    folder = Path(__file__).parent / "golden"

    def compare(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--bless"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.is_file(), f"there is no {path.name} yet: run pytest with --bless"
        assert text == path.read_text(encoding="utf-8")

    return compare
