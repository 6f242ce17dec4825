"""What takes long to make and is always the same: files named by a hash of all that it was made from.

They are pickles, which could run code when they are loaded, so they lie in a folder that belongs to the user alone.
Where there is none, everything is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import sys
from pathlib import Path
from typing import TypeVar

MOST_FILES = 100  # of one kind; beyond, the oldest go

Made = TypeVar("Made")


def place(kind: str, *made_from: str) -> Path | None:
    """The file that keeps what is made from this; None where no folder is the user's own."""
    key = hashlib.sha256("\0".join((*map(str, sys.version_info[:2]), *made_from)).encode("utf-8", "surrogatepass"))
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "nldsl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"{kind}-{key.hexdigest()[:32]}" if _private(folder) else None
    except (OSError, RuntimeError, ValueError):  # no home, no place, no permission
        return None


def _private(folder: Path) -> bool:
    about = folder.stat()
    mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    others_write = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return mine and not others_write and os.access(folder, os.W_OK)


def load(path: Path, kind: type[Made]) -> Made | None:
    """What the file keeps; None where there is nothing of this kind."""
    try:
        found = pickle.loads(path.read_bytes())
    except Exception:  # whatever is wrong with the file, its content can be made anew
        return None
    return found if isinstance(found, kind) else None


def keep(path: Path, made: object) -> None:
    """Writes the file, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError, RecursionError):
        unfinished.write_bytes(pickle.dumps(made, pickle.HIGHEST_PROTOCOL))
        unfinished.replace(path)
        kept = sorted(path.parent.glob(f"{path.name.partition('-')[0]}-*"), key=lambda p: p.stat().st_mtime)
        for old in kept[:-MOST_FILES]:
            old.unlink()
