"""Names, over a whole text before anything is instantiated."""

from __future__ import annotations

from nldsl.diagnostics import Findings
from nldsl.modules import ModuleScope


def check(module: ModuleScope, findings: Findings) -> None:
    pass
