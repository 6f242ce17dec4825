"""What is examined, and what it is given to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from nldsl.compiler.doctor.given import rates_from_outside
from nldsl.compiler.doctor.probe import Inputs
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training.data import Text, text_of
from nldsl.compiler.training.errors import TrainingError
from nldsl.compiler.training.evaluate import rows_of
from nldsl.compiler.training.loop import Options
from nldsl.compiler.training.start import texts_of
from torch import Tensor

from nldsl.graph import Port
from nldsl.vocabulary import vocabularies

BYTES = 256
READ = 8  # bytes of the library per byte that is needed: the sequences are from different places


@dataclass(frozen=True)
class Subject:
    """options: of the training run that the module comes from, if it does."""

    module: CompiledModule
    options: Options | None = None

    def inputs(
        self, data: Sequence[str], random: bool, tokens: int, batch: int, seed: int, given: Mapping[str, float]
    ) -> tuple[str, Inputs]:
        """(what is read, as a sentence has it; the inputs [batch, ticks, …]). A text that is too short gives fewer
        rows, or shorter ones. given: inputs that stay at a number. Raises TrainingError where the program can't read
        what it is asked to."""
        ports = self.module.graph.tick.inputs
        self._knows(given)
        whole = any(p.dtype == "int" for p in ports)
        if random or (not whole and not data):
            generator = torch.Generator().manual_seed(seed)
            streams = tuple(self._drawn(p, tokens, batch, generator) for p in ports)
            streams = tuple(
                torch.full_like(x, float(given[p.id])) if p.id in given else x
                for p, x in zip(ports, streams, strict=True)
            )
            shown = "".join(f", {name} = {float(value):g}" for name, value in given.items())
            return f"random {'tokens' if whole else 'streams'}{shown}", streams
        self._reads_bytes()
        text = self._text(data, tokens * batch)
        if len(text) < 2:
            raise TrainingError(f"{text.name} holds too little to predict; give more text")
        length = min(tokens, len(text))
        return text.name, (rows_of(text, length, batch).long().to(self.module.device),)

    def _drawn(self, port: Port, tokens: int, batch: int, generator: torch.Generator) -> Tensor:
        shape = (batch, tokens, *([port.heads] if port.heads else []), *map(int, port.shape))
        if port.dtype == "int":
            size = vocabularies(self.module.graph).get(port.id, BYTES)
            return torch.randint(size, shape, generator=generator).to(self.module.device)
        return torch.randn(shape, generator=generator).to(self.module.device, self.module.dtype)

    def _knows(self, given: Mapping[str, float]) -> None:
        graph = self.module.graph
        numbers = [p.id for p in graph.tick.inputs if p.dtype != "int"]
        for name in given:
            if name not in numbers:
                shown = ", ".join(f"`{n}`" for n in numbers)
                raise TrainingError(f"`{name}` is no input of numbers of `{graph.program}`; it has {shown or 'none'}")
        missing = [name for name in rates_from_outside(graph) if name not in given]
        if missing:
            shown, example = ", ".join(f"`{n}`" for n in missing), " ".join(f"--give {n}=…" for n in missing)
            raise TrainingError(
                f"`{graph.program}` takes its rates from outside ({shown}), and random numbers are none; say what they "
                f"are, {example}, or examine the block that makes them"
            )

    def _reads_bytes(self) -> None:
        graph = self.module.graph
        ports = graph.tick.inputs
        if len(ports) != 1 or ports[0].dtype != "int" or ports[0].shape or ports[0].heads:
            shown = ", ".join(f"`{p.id}`" for p in ports)
            raise TrainingError(f"`{graph.program}` is over {shown}, not over one stream of tokens; --random fits it")
        size = vocabularies(graph).get(ports[0].id, BYTES)
        if size < BYTES:
            raise TrainingError(
                f"`{graph.program}` knows {size} tokens, and there are {BYTES} bytes; use --random, or a larger "
                "vocabulary"
            )

    def _text(self, data: Sequence[str], size: int) -> Text:
        if self.options is None or data:
            return text_of(data, READ * size)
        train, valid = texts_of(self.options)
        return valid or train
