"""What a diagnostic code means: the page that `nldsl explain CODE` prints."""

from __future__ import annotations

from importlib.resources import files

from nldsl.codes import CODES
from nldsl.diagnostics import nearest


class UnknownCode(LookupError):
    """There is no such code; the text names the nearest one."""


def explain(code: str) -> str:
    """The page of a code as Markdown; `nl301` and `301` are understood as `NL301`.

    Raises UnknownCode.
    """
    name = code.strip().upper()
    if name.isdigit():
        name = f"NL{name:0>3}"
    if name not in CODES:
        guess = nearest(name, CODES) or f"the codes run from {min(CODES)} to {max(CODES)}"
        raise UnknownCode(f"there is no code `{code}`; {guess}")
    return (files("nldsl") / "pages" / f"{name}.md").read_text(encoding="utf-8")
