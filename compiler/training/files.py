"""Files that are there as a whole or not at all, whenever a process is killed or a disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that its name always means a whole one: the old content until the new is on the disk. Raises
    OSError, and leaves the old file as it was."""
    part = path.with_name(path.name + ".part")  # in the same folder, so that the renaming is one step
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming last. Some systems can't open folders, and need not."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
