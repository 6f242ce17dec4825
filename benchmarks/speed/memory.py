"""The most that was allocated at once: exact, on the CPU, by watching the storages of what every operation returns."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak(step: Callable[[], None]) -> int:
    """Bytes of tensors alive at once during the step, beyond those from before it: what it keeps for backward, what
    it computes on the way, and the gradients it leaves. What a kernel needs inside of itself isn't seen, nor anything
    in code of torch.compile."""
    gc.collect()
    watch = Watch()
    with watch:
        step()
    return watch.most


class Watch(TorchDispatchMode):
    """most: the largest sum of the bytes of storages that were first seen as an answer and are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}  # address of a storage -> its bytes, 0 where it was there before
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for storage in storages((args, kwargs)):
            self.see(storage, 0)
        answer = func(*args, **kwargs)
        for storage in storages(answer):
            self.see(storage, storage.nbytes())
        return answer

    def see(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata in self.alive:
            return
        self.alive[storage._cdata] = size
        weakref.finalize(storage, self.forget, storage._cdata)  # torch keeps this object as long as the storage
        self.now += size
        self.most = max(self.most, self.now)

    def forget(self, address: int) -> None:
        self.now -= self.alive.pop(address)


def storages(values: Any) -> Iterable[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor))
