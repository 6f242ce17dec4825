"""How a run begins: the options of a new one, or those of the checkpoint it goes on from, and the texts they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nldsl.compiler.training import checkpoint
from nldsl.compiler.training.checkpoint import Checkpoint
from nldsl.compiler.training.data import Text, held_out, text_of
from nldsl.compiler.training.errors import TrainingError, reason
from nldsl.compiler.training.loop import Options

OPTIONS = tuple(field.name for field in fields(Options))


def earlier(folder: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from; for a new run None, and the folder is made. Raises TrainingError where there is a
    run already, or none to go on with."""
    if resume:
        return checkpoint.read(folder)
    if (folder / checkpoint.NAME).exists():
        raise TrainingError(f"`{folder}` holds a run already; go on with it by --resume, or name another --out folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"the folder `{folder}` can't be made: {reason(error)}") from None
    return None


def options_of(asked: Mapping[str, Any], said: set[str], kept: Checkpoint | None) -> Options:
    """asked: every option with its value. said: those that the user gave, which is all that counts for a run that goes
    on."""
    if kept is None:
        return Options(**asked)
    return replace(Options(**kept.options), **{name: asked[name] for name in said})


def texts_of(options: Options) -> tuple[Text, Text | None]:
    """(what to train on, what to validate with). Raises TrainingError for what can't be read or is too short."""
    text = text_of(options.data)
    if options.valid:
        return text, text_of(options.valid)
    train, rest = held_out(text, options.held_out)
    return train, rest if len(rest) else None
