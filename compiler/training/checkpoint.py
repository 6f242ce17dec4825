"""A training run on disk: one .safetensors file with all that is needed to go on, and the program's text with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from nldsl.compiler.training.errors import TrainingError, reason
from nldsl.compiler.training.files import replace_file
from nldsl.compiler.training.pack import Tensors, pack, unpack
from nldsl.compiler.training.source import Source
from torch import Tensor

NAME = "checkpoint.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps.

    parameters: by their names in the program. optimizers: the state_dict of each. state: what the memories carry from
    piece to piece, None where nothing is carried. rng: torch's random numbers, uint8. progress: tokens read, seconds
    taken, the data's digest. options: what the run was asked for. version: of the nldsl that wrote it.
    """

    source: Source
    options: Mapping[str, Any]
    step: int
    progress: Mapping[str, Any]
    parameters: Mapping[str, Tensor]
    optimizers: list[Any]
    state: Any
    rng: Tensor
    version: str


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write FOLDER/checkpoint.safetensors, whole or not at all. Raises TrainingError if the disk does not take it."""
    tensors: Tensors = {}
    content: dict[str, Any] = {"format": FORMAT, "source": pack(asdict(checkpoint.source), "", {})}
    content |= {"step": checkpoint.step, "version": checkpoint.version}
    for name in ("options", "progress"):
        content[name] = pack(dict(getattr(checkpoint, name)), "", {})
    for name in ("parameters", "optimizers", "state", "rng"):
        content[name] = pack(getattr(checkpoint, name), name, tensors)
    text = json.dumps(content)
    metadata = {"nldsl": text, "checksum": _checksum(text, tensors)}
    path = folder / NAME
    try:
        replace_file(path, safetensors.torch.save(tensors, metadata))
    except OSError as error:
        still = "; the one before is still there" if path.exists() else ""
        raise TrainingError(f"`{path}` can't be written: {reason(error)}{still}") from None


def read(folder: Path) -> Checkpoint:
    """The checkpoint of a folder. Raises TrainingError if there is none or it is not as it was written."""
    path = folder / NAME
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise TrainingError(f"`{folder}` {what}; give the folder that `nldsl train --out` wrote")
    if not path.is_file():
        raise TrainingError(f"`{folder}` holds no {NAME}; give the folder that `nldsl train --out` wrote")
    metadata, tensors = _opened(path)
    if "nldsl" not in metadata:
        raise TrainingError(f"`{path}` was not written by `nldsl train`; give the folder of a training run")
    text = metadata["nldsl"]
    if metadata.get("checksum") != _checksum(text, tensors):
        raise TrainingError(f"`{path}` was altered after it was written: its checksum differs; use a copy of it")
    content = json.loads(text)
    if content["format"] != FORMAT:
        raise TrainingError(f"`{path}` was written by nldsl {content['version']}, whose format this one can't read")
    read_as: dict[str, Any] = {
        name: unpack(content[name], tensors)
        for name in ("source", "options", "progress", "parameters", "optimizers", "state", "rng")
    }
    return Checkpoint(
        **read_as | {"source": Source(**read_as["source"])}, step=content["step"], version=content["version"]
    )


def _opened(path: Path) -> tuple[dict[str, str], Tensors]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise TrainingError(f"`{path}` can't be read: {reason(error)}") from None
    except safetensors.SafetensorError as error:
        raise TrainingError(f"`{path}` is cut short or altered ({error}); use a copy of it, or train again") from None


def _checksum(text: str, tensors: Tensors) -> str:
    """A digest of all that the file says."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
