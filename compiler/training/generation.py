"""Text from a model, byte by byte: each is read at once, and the memories carry what was said so far."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import torch
from nldsl.compiler.module import CompiledModule
from nldsl.compiler.training.errors import TrainingError
from torch import Tensor

from nldsl.graph import LevelGraph

BYTES = 256
PIECE = 256  # tokens of the prompt that are read together


def logits_output(graph: LevelGraph) -> int:
    """Which of the program's results its loss takes as logits. Raises TrainingError if none is."""
    taken = {s.args[0] for s in graph.streams.values() if s.op == "cross_entropy"}
    for i, port in enumerate(graph.outs):
        if port.stream in taken:
            return i
    raise TrainingError(f"`{graph.program}` does not return the logits of its loss; `generate` needs `return logits`")


def generate(
    module: CompiledModule, prompt: bytes, tokens: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> Iterator[int]:
    """The bytes that follow a prompt of at least one byte, as they are drawn.

    temperature: 0 takes the likeliest byte each time. top_k: only so many of the likeliest are drawn from, 0 for all.
    Raises TrainingError where the logits are not finite.
    """
    output = logits_output(module.graph)
    generator = torch.Generator().manual_seed(seed)
    state, logits = None, torch.zeros(0)

    def read(part: bytes | list[int]) -> None:
        nonlocal state, logits
        *outs, state = module(torch.tensor([list(part)], device=module.device), state=state)
        logits = outs[output][0, -1].float().cpu()

    with torch.no_grad():
        for first in range(0, len(prompt), PIECE):
            read(prompt[first : first + PIECE])
        for i in range(tokens):
            byte = draw(logits[:BYTES], temperature, top_k, generator)
            yield byte
            if i + 1 < tokens:
                read([byte])


def draw(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> int:
    """One index of [n] logits."""
    if not bool(logits.isfinite().all()):
        raise TrainingError("the model's logits are not finite; evaluate it on a text to see from where on")
    if temperature == 0:
        return int(logits.argmax())
    likeliest = logits.topk(min(top_k, len(logits)) or len(logits))
    chances = torch.softmax(likeliest.values.double() / temperature, -1)
    return int(likeliest.indices[torch.multinomial(chances, 1, generator=generator)])


def as_text(content: Iterator[int]) -> Iterator[str]:
    """Bytes as text as soon as they are whole characters; what is no UTF-8 becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for byte in content:
        if text := decoder.decode(bytes([byte])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
