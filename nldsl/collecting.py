"""Python's search for cycles, put off while much is made and little of it dropped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search, which looks at all that is alive, torch's own objects too, each time that enough is new: that
    took as long as to build a program, and a twentieth of the time of chunks that follow one another."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
