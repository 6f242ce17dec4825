"""How well a model predicts a text: bits per byte, overall and by the place in what was read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training.data import Text
from torch import Tensor

FIRST, FACTOR = 16, 4  # the first bucket of places, and how much further each next one goes


@dataclass(frozen=True)
class Bucket:
    """Places `first` to `last` of a sequence, both counted, how many predictions were made there and how well."""

    first: int
    last: int
    count: int
    bits_per_byte: float


@dataclass(frozen=True)
class Scores:
    """loss: summed nats, count: predictions; both [length] float64, by the place in the sequence."""

    loss: Tensor
    count: Tensor

    @property
    def nats(self) -> float:
        """The mean loss of a prediction."""
        return float(self.loss.sum() / self.count.sum())

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2)

    def buckets(self) -> Iterator[Bucket]:
        """Places 0-15, 16-63, 64-255 and so on, those without a prediction left out."""
        first, end = 0, FIRST
        while first < len(self.count):
            count = int(self.count[first:end].sum())
            if count:
                bits = float(self.loss[first:end].sum()) / count / math.log(2)
                yield Bucket(first, min(end, len(self.count)) - 1, count, bits)
            first, end = end, end * FACTOR


def rows_of(text: Text, length: int, most: int) -> Tensor:
    """At most `most` rows of `length` tokens, from places spread evenly over the text: [rows, length] uint8. A text
    that is shorter is one row."""
    length = min(length, len(text))
    count = max(1, min(most, len(text) // length))
    apart = (len(text) - length) // max(1, count - 1)
    return torch.stack([text.tokens[i * apart : i * apart + length] for i in range(count)])


def score(
    module: CompiledModule, rows: Tensor, batch: int, piece: int, progress: Callable[[int], None] = lambda tokens: None
) -> Scores:
    """Let the module read each row from its beginning, `batch` rows together, `piece` tokens per call with the state
    carried from call to call. rows: [n, length]. progress: is told how many tokens were read."""
    loss = torch.zeros(rows.shape[1], dtype=torch.float64)
    count = torch.zeros(rows.shape[1], dtype=torch.float64)
    with torch.no_grad():
        for begin in range(0, len(rows), batch):
            some, state = rows[begin : begin + batch], None
            for first in range(0, rows.shape[1], piece):
                ids = some[:, first : first + piece].long().to(module.device)
                losses, known, state = module.losses(ids, state=state)
                here = slice(first, first + ids.shape[1])
                loss[here] += torch.where(known, losses, 0).double().sum(0).cpu()
                count[here] += known.double().sum(0).cpu()
                progress(ids.numel())
    return Scores(loss, count)
