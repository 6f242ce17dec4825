"""What ends a training run, an evaluation or a generation with a sentence."""

from __future__ import annotations


class TrainingError(Exception):
    """Something that can't be had as it was asked for; its text is one sentence for the user."""


def reason(error: Exception) -> str:
    """Why the system refused, in lower case: `no space left on device`."""
    return (getattr(error, "strerror", None) or str(error)).lower()
