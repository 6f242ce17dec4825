"""The measurements of a run, a JSON object per line, on disk as soon as they are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nldsl.compiler.training.errors import TrainingError, reason
from nldsl.compiler.training.files import replace_file

NAME = "metrics.jsonl"


class Log:
    """FOLDER/metrics.jsonl. Every line has a `step`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def add(self, row: Mapping[str, Any]) -> None:
        """One more line. Raises TrainingError if the disk does not take it."""
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        except OSError as error:
            raise TrainingError(f"`{self.path}` can't be written: {reason(error)}") from None

    def cut(self, step: int) -> None:
        """Drop the lines of later steps, which a checkpoint of this step knows nothing of, and a last line that was
        not written to its end."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
        replace_file(self.path, b"".join(kept))
