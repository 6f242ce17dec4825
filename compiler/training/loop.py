"""A training run: steps, what is measured at each, validation, and checkpoints to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training import blame, checkpoint
from nldsl.compiler.training.checkpoint import Checkpoint
from nldsl.compiler.training.data import Pieces, Text
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.evaluate import rows_of, score
from nldsl.compiler.training.log import Log
from nldsl.compiler.training.source import Source
from torch import Tensor
from torch.utils._pytree import tree_map_only

VALID_PIECES = 64  # read at each validation
VALID_CARRIED = 8  # pieces of a row, where a state is carried from one to the next


@dataclass(frozen=True)
class Options:
    """What a run was asked for, as its checkpoints say it. data, valid: files; none are Python's library, and the
    part of the data that is held out."""

    data: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    held_out: float = 0.1
    batch: int = 8
    length: int = 256
    carry: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Metrics:
    """One step: `loss` is the mean over its predictions in nats, `gradient` the norm of all gradients, `tokens` those
    read since the beginning, `seconds` the time taken since then, `tokens_per_second` the step's own."""

    step: int
    tokens: int
    loss: float
    bits_per_byte: float
    gradient: float
    tokens_per_second: float
    seconds: float


class Training:
    """module: compiled, its parameters on `device`. texts: to train on, and to validate with or None."""

    def __init__(
        self, module: CompiledModule, source: Source, options: Options, texts: tuple[Text, Text | None], folder: Path
    ) -> None:
        self.module, self.source, self.options, self.folder = module, source, options, folder
        module.runner.steps.patience = 0  # a traced body rounds otherwise than a plain one, and a resumed run must not
        self.log = Log(folder)
        self.optimizers: list[torch.optim.Optimizer] = module.optimizers()
        self.text, self.valid = texts
        self.pieces = Pieces(self.text, options.batch, options.length, options.carry, options.seed)
        self.digest = self.text.digest
        self.state: Any = None
        self.done = self.tokens = 0
        self.seconds = 0.0

    @property
    def sequence(self) -> int:
        """How many tokens the rows of the last step have read since they began anew."""
        pieces = (self.done - 1) % self.pieces.per_region + 1 if self.options.carry else 1
        return self.options.length * pieces

    def step(self) -> Metrics:
        """One training step. Raises TrainingError, before anything is written, where a number is not finite."""
        begun = time.perf_counter()
        piece = self.pieces.at(self.done)
        ids = piece.ids.to(self.module.device)
        state = None if piece.fresh else self.state
        mean, after = self.module.backward(ids, state=state)
        gradient = self._gradient()
        loss = float(mean)
        if not (math.isfinite(loss) and math.isfinite(gradient) and self._finite(after)):
            raise TrainingError(self._broken(ids, state, piece.starts, loss))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._still_finite()
        self.state = after if self.options.carry else None
        self.done += 1
        self.tokens += ids.numel()
        took = time.perf_counter() - begun
        self.seconds += took
        metrics = Metrics(self.done, self.tokens, loss, loss / math.log(2), gradient, ids.numel() / took, self.seconds)
        self.log.add(asdict(metrics))
        return metrics

    def validate(self, progress: Callable[[int], None] = lambda tokens: None) -> float | None:
        """Bits per byte of the text held out, None if there is none. With `carry` each of its rows is several pieces
        long. progress: is told how many tokens were read."""
        if self.valid is None:
            return None
        length = self.options.length
        pieces = max(1, min(VALID_CARRIED, len(self.valid) // length)) if self.options.carry else 1
        rows = rows_of(self.valid, length * pieces, VALID_PIECES // pieces)
        scores = score(self.module, rows, self.options.batch, length, progress)
        self.log.add({"step": self.done, "valid_loss": scores.nats, "valid_bits_per_byte": scores.bits_per_byte})
        return scores.bits_per_byte

    # What is kept

    def save(self) -> None:
        """Write the checkpoint. Raises TrainingError if the disk does not take it."""
        import nldsl

        progress = {"tokens": self.tokens, "seconds": self.seconds, "data": self.digest}
        kept = Checkpoint(
            source=self.source,
            options=asdict(self.options),
            step=self.done,
            progress=progress,
            parameters=self.module.state_dict(),
            optimizers=[o.state_dict() for o in self.optimizers],
            state=self.state,
            rng=torch.get_rng_state(),
            version=nldsl.__version__,
        )
        checkpoint.write(kept, self.folder)

    def go_on(self, kept: Checkpoint) -> None:
        """Continue from a checkpoint. Raises TrainingError if it is of another program, other data or other options."""
        where = f"`{self.folder / checkpoint.NAME}`"
        if kept.source.meaning != self.source.meaning:
            raise TrainingError(
                f"{where} is of another program: {differing(kept.source, self.source)}; "
                "go on with the same program, or train in another --out folder"
            )
        asked = asdict(self.options)
        for name, value in kept.options.items():
            if name not in ("data", "valid") and asked[name] != value:
                raise TrainingError(f"{where} is of a run with {name} {value}, not {asked[name]}; go on with the same")
        if kept.progress["data"] != self.digest:
            raise TrainingError(
                f"{where} is of a run over other data than {self.text.name} is now; name the same files, unchanged"
            )
        self.module.load_state_dict(kept.parameters)
        for optimizer, state in zip(self.optimizers, kept.optimizers, strict=True):
            optimizer.load_state_dict(state)
        self.state = self._own(kept.state)
        self.done, self.tokens, self.seconds = kept.step, kept.progress["tokens"], kept.progress["seconds"]
        torch.set_rng_state(kept.rng)
        self.log.cut(self.done)

    def _own(self, state: Any) -> Any:
        """A state of a checkpoint as this module's. A state names its program by a text with the places of its files,
        and those may have moved; that the program is the same has been checked."""
        if state is None:
            return None
        state = tree_map_only(Tensor, lambda x: x.to(self.module.device), state)
        return state | {"program": self.module.initial_state(1)["program"]}

    # What must be finite

    def _gradient(self) -> float:
        """The norm of all gradients; where it overflows, the largest number if all of them are finite."""
        found = [p.grad for p in self.module.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(found)) if found else 0.0
        if not math.isfinite(norm) and all(bool(g.isfinite().all()) for g in found):
            return torch.finfo(torch.float32).max
        return norm

    def _finite(self, state: Any) -> bool:
        return blame.all_finite(self.module.weights(state))

    def _still_finite(self) -> None:
        parameters = dict(self.module.named_parameters())
        if not blame.all_finite(parameters):
            [name, *_] = [n for n, p in parameters.items() if not p.isfinite().all()]
            raise TrainingError(self._stopped(f"what its optimizer made of parameter `{name}`"))

    def _broken(self, ids: Tensor, state: Any, starts: tuple[int, ...], loss: float) -> str:
        """The sentence that says what is not finite, and what is left."""
        found = blame.find(self.module, ids, state)
        if found is not None:
            what = f"{found} (byte {starts[found.row] + found.token:,} of {self.text.name})"
        else:
            names = [n for n, p in self.module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            what = f"the gradient of `{names[0]}`" if names else f"the loss ({loss})"
        return self._stopped(what)

    def _stopped(self, what: str) -> str:
        return (
            f"step {self.done + 1} stopped at a number that is not finite: {what}; "
            f"`{self.folder / checkpoint.NAME}` holds the last good step that was saved, and smaller rates may help"
        )


def differing(old: Source, new: Source) -> str:
    """In what two programs differ, as far as their names, hyper-parameters and texts say."""
    if old.program != new.program:
        return f"`{old.program}`, not `{new.program}`"
    for name in {**old.hyper, **new.hyper}:
        if old.hyper.get(name) != new.hyper.get(name):
            return f"{_set(name, old.hyper)}, not {_set(name, new.hyper)}"
    changed = [n for n in {**old.texts, **new.texts} if old.texts.get(n) != new.texts.get(n)]
    return f"`{changed[0]}` was changed since" if changed else "nldsl was changed since"


def _set(name: str, hyper: Mapping[str, Any]) -> str:
    return f"{name} = {hyper[name]}" if name in hyper else f"{name} at its default"
