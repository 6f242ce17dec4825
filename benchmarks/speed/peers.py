"""The code of others, as it is published. `make bench` installs it into a folder of its own, `.peers`, without what its
packages ask for beyond `benchmarks/peers.txt`: they would bring a second torch and versions that exclude each other."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.jobs import BATCH, DIM, HEADS, VOCAB, Job, block_job, forget, tokens

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".peers"
INSTALL = "pip install --no-deps --target .peers -r benchmarks/peers.txt"


class Absent(Exception):
    """A peer that isn't installed; says how it would be."""


def reachable() -> None:
    """After the environment's own packages, so that torch and numpy stay the same for all."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


def imported(package: str, module: str) -> Any:
    """The module of that dotted name, of the installed distribution."""
    reachable()
    try:
        metadata.distribution(package)
        return importlib.import_module(module)
    except metadata.PackageNotFoundError as error:
        raise Absent(f"{package} is not installed: {INSTALL}") from error
    except ModuleNotFoundError as error:
        raise Absent(f"{package} needs {error.name}, which is not installed: {INSTALL}") from error


def naive(rule: str) -> ModuleType:
    """`fla.ops.<rule>.naive` by its path: the packages around it import kernels that need a GPU's compiler."""
    imported("fla-core", "einops")
    path = Path(str(metadata.distribution("fla-core").locate_file(f"fla/ops/{rule}/naive.py")))
    spec = util.spec_from_file_location(f"fla_naive_{rule}", path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def titans(length: int, chunk: int, batched: bool) -> Job:
    """titans-pytorch's memory. batched: gradients at the weights of each chunk's start, as the paper has it; without,
    all are taken at the weights of the sequence's start, and the chunk is only that of the gates."""
    library = imported("titans-pytorch", "titans_pytorch")
    own = {"batch_size": chunk} if batched else {}
    return block_job(library.NeuralMemory(dim=DIM, dim_head=DIM // HEADS, heads=HEADS, chunk_size=chunk, **own), length)


def hope(length: int, chunk: int, periods: tuple[int, ...]) -> Job:
    """nested-learning's one-layer Hope, one step as its training makes it: forward, cross-entropy, backward, then a
    second forward without gradients in which every memory writes, into a state that is new for each sequence."""
    levels = imported("nested-learning", "nested_learning.levels")
    models = imported("nested-learning", "nested_learning.model")
    training = imported("nested-learning", "nested_learning.training")
    model = models.HOPEModel(
        models.ModelConfig(
            vocab_size=VOCAB,
            dim=DIM,
            num_layers=1,
            heads=HEADS,
            titan_level=levels.LevelSpec("titan", chunk),
            cms_levels=[levels.LevelSpec(f"cms {period}", period) for period in periods],
            self_mod_chunk_size=chunk,
            self_mod_chunk_size_memory=chunk,
            self_mod_use_skip=False,
            block_variant="hope_selfmod",
        )
    )
    ids = tokens(length)

    def step() -> None:
        forget(model)
        state = model.init_fast_state()
        logits = model(ids, fast_state=state)
        torch.autograd.backward(F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
        signal = training.compute_teach_signal(model, logits, ids)
        with torch.no_grad():
            model(ids, teach_signal=signal, fast_state=state)

    return Job(model, step)


class Llama(nn.Module):
    """transformers' Llama layer and what its model hands to it."""

    def __init__(self, length: int) -> None:
        super().__init__()
        llama = imported("transformers", "transformers.models.llama.modeling_llama")
        config = llama.LlamaConfig(
            hidden_size=DIM,
            intermediate_size=8 * DIM // 3,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            attn_implementation="sdpa",
        )
        self.layer = llama.LlamaDecoderLayer(config, layer_idx=0)
        positions = torch.arange(length).expand(BATCH, length)
        self.positions = llama.LlamaRotaryEmbedding(config)(torch.zeros(BATCH, length, DIM), positions)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, position_embeddings=self.positions)


def llama(length: int) -> Job:
    return block_job(Llama(length), length)
