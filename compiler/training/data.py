"""Text as tokens, one per byte, and the way a training run takes through it."""

from __future__ import annotations

import hashlib
import sysconfig
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from nldsl.compiler.training.errors import TrainingError, reason
from torch import Tensor

LIBRARY = "the source of Python's library"
LIBRARY_BYTES = 8_000_000
LARGEST = 1 << 30  # bytes of one file
LEAST = 2  # bytes: one to read and one to predict
FOREIGN = {"site-packages", "dist-packages", "test", "tests"}  # folders of the library that are not its source


@dataclass(frozen=True)
class Text:
    """tokens: [n] uint8. name: what it is called in a sentence, a file's name in backticks."""

    name: str
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.tokens.numpy().tobytes()).hexdigest()


def text_of(files: Sequence[str], limit: int = LIBRARY_BYTES) -> Text:
    """The files one behind the other, or where there are none the source of Python's own library, `limit` bytes of it.
    Raises TrainingError for what is no file, can't be read or is empty."""
    name = f"`{files[0]}`" + (f" and {len(files) - 1} more" if len(files) > 1 else "") if files else LIBRARY
    content = b"".join(map(_file, files)) if files else _library(limit)
    return Text(name, torch.frombuffer(bytearray(content), dtype=torch.uint8))


def _file(name: str) -> bytes:
    path = Path(name)
    try:
        if path.is_dir():
            raise TrainingError(f"`{name}` is a folder; name the text files in it, such as {name.rstrip('/')}/*.txt")
        with path.open("rb") as stream:
            content = stream.read(LARGEST)
            if stream.read(1):
                raise TrainingError(f"`{name}` holds more than {LARGEST >> 30} GiB; give a part of it")
    except (OSError, ValueError) as error:
        raise TrainingError(f"`{name}` can't be read: {reason(error)}") from None
    if len(content) < LEAST:
        raise TrainingError(f"`{name}` holds {'one byte' if content else 'nothing'}; there is nothing to predict")
    return content


def _library(limit: int) -> bytes:
    """Text that every Python ships: the modules of its library in the order of their names, `limit` bytes of them."""
    root = Path(sysconfig.get_path("stdlib"))
    content = bytearray()
    for path in sorted(root.rglob("*.py")):
        if FOREIGN.isdisjoint(path.relative_to(root).parts[:-1]) and len(content) < limit:
            content += path.read_bytes()
    if len(content) < LEAST:
        raise TrainingError("this Python comes without the source of its library; name a text with --data")
    return bytes(content[:limit])


def held_out(text: Text, share: float) -> tuple[Text, Text]:
    """(what to train on, the last `share` of it, to check with)."""
    cut = len(text) - int(len(text) * share)
    if share and len(text) - cut < LEAST:
        raise TrainingError(
            f"{text.name} holds {len(text)} bytes, too few to hold out {share:g} of them; "
            "give more text, another one with --valid, or --held-out 0"
        )
    return Text(text.name, text.tokens[:cut]), Text(f"the last {100 * share:g} % of {text.name}", text.tokens[cut:])


@dataclass(frozen=True)
class Piece:
    """What one training step reads. ids: [batch, length] int64. starts: the place in the text of each row's first
    token. fresh: whether the rows begin anew, without a state."""

    ids: Tensor
    starts: tuple[int, ...]
    fresh: bool


class Pieces:
    """The pieces of a training run. Which one a step reads follows from its number and the seed alone, so a run that
    goes on later reads what it would have read.

    Without `carry` each row is a piece from anywhere in the text. With it each row has a region of the text of its
    own, read piece by piece; at the end of the regions all begin anew.
    """

    def __init__(self, text: Text, batch: int, length: int, carry: bool, seed: int) -> None:
        self.text, self.batch, self.length, self.carry, self.seed = text, batch, length, carry, seed
        need = batch * length if carry else length
        if len(text) < need:
            what = f"{batch} rows of --length {length} take" if carry else f"one piece of --length {length} takes"
            way = "a smaller --batch or --length" if carry else "a shorter --length"
            raise TrainingError(
                f"{text.name} leaves {len(text)} bytes to train on and {what} {need}; give more text or {way}"
            )

    @property
    def per_region(self) -> int:
        """With `carry`, the pieces of a row until it begins anew."""
        return len(self.text) // self.batch // self.length

    def at(self, step: int) -> Piece:
        """The piece of a step; steps count from 0."""
        if self.carry:
            place = step % self.per_region
            starts = [(row * self.per_region + place) * self.length for row in range(self.batch)]
            return self._piece(starts, place == 0)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {step}".encode()))
        last = len(self.text) - self.length
        return self._piece(torch.randint(last + 1, (self.batch,), generator=generator).tolist(), True)

    def _piece(self, starts: list[int], fresh: bool) -> Piece:
        rows = [self.text.tokens[start : start + self.length] for start in starts]
        return Piece(torch.stack(rows).long(), tuple(starts), fresh)
