"""A dispatch mode under which a program runs on the meta device: every operator is counted, for the record that it
belongs to, and so is the memory that is alive."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import torch
from nldsl.compiler.cost.shapes import META, Shapes, storage_of, tensors_in
from nldsl.compiler.cost.work import Work, work_of
from nldsl.compiler.steps import Steps
from torch import Tensor, fx
from torch.fx import traceback
from torch.fx._symbolic_trace import is_fx_symbolic_tracing
from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """works: by record, "" for what belongs to none. peak: the most bytes that were alive at once, beginning with
    those of `held`.

    A gradient belongs to the record whose value it is of: torch numbers the steps of a backward pass in the order of
    the forward one, and `at` notes which record each number begins.
    """

    def __init__(self, shapes: Shapes, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.shapes, self.record = shapes, ""
        self.works: dict[str, Work] = {}
        self.alive = self.peak = 0
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._numbers, self._records = [0], [""]
        for x in held:
            self._keep(x)

    def at(self, record: str) -> None:
        """What comes next belongs to this record."""
        self.record = record
        traceback.current_meta["custom"] = {"record": record}
        number = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        if number > self._numbers[-1]:
            self._numbers.append(number)
            self._records.append(record)
        else:
            self._records[-1] = record

    def __enter__(self) -> Any:
        self._preserving = traceback.preserve_node_meta()
        self._preserving.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._preserving.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_fx_symbolic_tracing():  # what is traced is counted when it runs
            return func(*args, **kwargs)
        out, known = self.shapes.run(func, args, kwargs)
        if known.work is None:
            known.work = work_of(func, known.kind, args, kwargs, out)
        if known.work.bytes:
            record = self._owner()
            if record not in self.works:
                self.works[record] = Work()
            self.works[record].add(known.work)
        if known.kind == "fresh":
            for x in tensors_in((out,)):
                self._keep(x)
        return out

    def _owner(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self.record
        number = node._sequence_nr()
        if number > self._numbers[-1] and number > torch.autograd._get_sequence_nr():  # type: ignore[attr-defined]
            return ""  # a gradient is put where it belongs
        record = self._records[bisect_right(self._numbers, number) - 1]
        if record != self._records[-1]:
            self.at(record)
        return record

    def _keep(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key = storage._cdata
        if x.device.type != META or key in self._storages:
            return
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self._storages[key] = weakref.ref(storage, self._freed(key, size))

    def _freed(self, key: int, size: int) -> Callable[[Any], None]:
        def freed(_: Any) -> None:
            self.alive -= size
            self._storages.pop(key, None)

        return freed


class OwnedSteps(Steps):
    """Bodies that are traced at once, and say which record is at work while they run."""

    def __init__(self) -> None:
        super().__init__(patience=0)
        self.at: Callable[[str], None] = lambda record: None

    def called(self, graph: fx.GraphModule) -> Callable[..., Any]:
        def at(record: str) -> None:
            self.at(record)

        now = ""
        for node in list(graph.graph.nodes):
            record = node.meta.get("custom", {}).get("record", now)
            if node.op == "call_function" and record != now:
                with graph.graph.inserting_before(node):
                    graph.graph.call_function(at, (record,))
                now = record
        graph.recompile()
        return graph


def bytes_of(values: Iterable[Tensor], known: set[int]) -> int:
    """The bytes of the storages of these tensors that are not known yet; they are then."""
    total = 0
    for x in values:
        if storage_of(x) not in known:
            known.add(storage_of(x))
            total += x.untyped_storage().nbytes()
    return total
