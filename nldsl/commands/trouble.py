"""What goes wrong in training and after it, as the sentences of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nldsl.commands.common import Failure


@contextmanager
def sentences() -> Iterator[None]:
    """Ends the command with the sentence of a TrainingError. Imports torch."""
    from nldsl.compiler.training.errors import TrainingError

    try:
        yield
    except TrainingError as error:
        raise Failure(str(error)) from None
