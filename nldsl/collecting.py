"""Python's search for cycles, put off while much is built and little of it dropped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search, which looks at all that is alive, torch's own objects too, each time that enough is new: once
    or twice while a program is built, and that took as long as building it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
