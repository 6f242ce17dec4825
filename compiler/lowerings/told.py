"""What a tick makes of a weight, where one sentence says it all: w' = diag(a) w + x v^T + z (e^T w)^T.

It is read off the forms that the closed form is told by (`weight.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from nldsl.compiler.affine import Number, is_one, times
from nldsl.compiler.lowerings.products import total_of
from nldsl.compiler.lowerings.weight import Reading, Weight, Write, same
from nldsl.compiler.masks import LEAD
from torch import Tensor

WIDEST = 256  # rows of a state that the kernels keep on the chip


class Unfit(Exception):
    """No kernel knows this."""


@dataclass(frozen=True)
class Told:
    """w' = a w + x known^T + z (e^T w)^T at every tick. decay: a, a number per tick or one for every row. x, z, e
    [B, T, H, n]; known [B, T, H, m]. beta, aim: where z is x and e is -a beta x, so that a tick moves a w towards aim;
    divided: whether a was divided by for that."""

    decay: Number
    x: Tensor
    known: Tensor
    erased: tuple[Tensor, Tensor] | None = None  # z and e
    beta: Number = None
    aim: Tensor | None = None
    divided: bool = False

    @property
    def by_row(self) -> bool:
        return isinstance(self.decay, Tensor) and self.decay.dim() > LEAD

    @property
    def log(self) -> Tensor:
        """Of the decay, [B, T, H], or [B, T, H, n] where rows have their own."""
        if not self.by_row:
            return self.per_tick(self.decay).log()
        assert isinstance(self.decay, Tensor)
        return self.decay.to(self.x.dtype).log().expand(self.x.shape)

    @property
    def log_of_rows(self) -> Tensor:
        return self.log if self.by_row else self.log[..., None].expand(self.x.shape)

    def per_tick(self, c: Number) -> Tensor:
        return torch.as_tensor(c, dtype=self.x.dtype, device=self.x.device).expand(self.x.shape[:LEAD])


def told(weight: Weight) -> Told:
    """What a tick makes of a weight. Raises Unfit."""
    terms = dict(weight.now["w"].terms)
    decay = terms.pop("w", 0.0)
    if (
        set(weight.states) - {"start"} != {"w"}
        or weight.reached(["w"]) != ["w"]
        or len(weight.shape) != 2
        or weight.shape[0] > WIDEST
    ):
        raise Unfit
    writes = [(weight.writes[i], b) for i, b in terms.items() if isinstance(i, int)]
    if any(w.x is None or w.band is not None or _dims(b) > LEAD for w, b in writes) or not writes:
        raise Unfit
    asked = [(w, times(b, c), weight.readings[i]) for w, b in writes for i, c in w.answers.items()]
    giving = [(w, b) for w, b in writes if w.known is not None]
    z = _rows([w for w, _, _ in asked]) if asked else None
    x = _rows([w for w, _ in giving]) if giving else z
    assert x is not None
    known = [beside_rows(b) * w.known.transpose(1, 2) for w, b in giving if w.known is not None]
    found = Told(decay, x, total_of(known) if known else x.new_zeros(*x.shape[:LEAD], weight.shape[1]))
    if z is None:
        return found
    erased = [beside_rows(times(c, _before(reading))) * reading.u.transpose(1, 2) for _, c, reading in asked]
    found = replace(found, erased=(z, total_of(erased).expand(z.shape)))
    corrects = len(writes) == len(asked) == len(giving) == 1 and asked[0][2].u is writes[0][0].x
    return _corrected(found, weight, *writes[0]) if corrects else found


def _rows(writes: Sequence[Write]) -> Tensor:
    """The rows that all these write with, [B, T, H, n]. Raises Unfit where there are several."""
    x = writes[0].x
    if x is None or any(w.x is not x for w in writes):
        raise Unfit
    return x.transpose(1, 2)


def _corrected(found: Told, weight: Weight, write: Write, b: Number) -> Told:
    """The same as a delta rule, where the step b need not be divided by: it may be 0."""
    ((i, c),) = write.answers.items()
    seen = _before(weight.readings[i])
    known = seen is found.decay or is_one(seen)
    if not known or not isinstance(c, float) or not c or found.by_row:
        return found
    assert write.known is not None
    kept = 1.0 if seen is found.decay else found.decay
    aim = beside_rows(times(kept, -1 / c)) * write.known.transpose(1, 2)
    divided = not is_one(kept)
    return replace(found, beta=times(b, -c) / kept if divided else times(b, -c), aim=aim, divided=divided)


def _before(reading: Reading) -> Number:
    """The factor of the weight before a tick in what is read."""
    if set(reading.form.terms) != {"w"}:
        raise Unfit
    return reading.form.terms["w"]


def when(weight: Weight, reading: Reading) -> Number | None:
    """None where a weight is read as a tick leaves it, else the factor of what the tick found. Raises Unfit."""
    return None if same(reading.form.terms, weight.now["w"].terms) else _before(reading)


def _dims(c: Number) -> int:
    return c.dim() if isinstance(c, Tensor) else 0


def beside_rows(c: Number) -> Number:
    """A number per tick beside rows [B, T, H, n]."""
    return c.unsqueeze(-1) if _dims(c) == LEAD else c
