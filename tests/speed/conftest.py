"""`benchmarks` is no installed package, and the root of the repository can't be on the path, as its
`compiler/` would hide that of the tests: here it is only its folder."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

benchmarks = ModuleType("benchmarks")
benchmarks.__path__ = [str(Path(__file__).resolve().parents[2] / "benchmarks")]
sys.modules.setdefault("benchmarks", benchmarks)
