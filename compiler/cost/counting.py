"""A dispatch mode under which a program runs on the meta device: every operator is counted, for the record that it
belongs to, and so is the memory that is alive."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import torch
from nldsl.compiler.asked import Asked
from nldsl.compiler.bodies.joining import joined
from nldsl.compiler.cost.shapes import META, Shapes, tensors_in
from nldsl.compiler.cost.work import Work, work_of
from nldsl.compiler.steps import Called, Steps
from torch import Tensor, fx
from torch.fx import traceback
from torch.fx._symbolic_trace import is_fx_symbolic_tracing
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """works: by record, "" for what belongs to none.

    A gradient belongs to the record whose value it is of: torch numbers the steps of a backward pass in the order of
    the forward one, and `at` notes which record each number begins.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes, self.record = shapes, ""
        self.works: dict[str, Work] = {}
        self._events: list[tuple[str, int]] = []  # bytes that came and went
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._numbers, self._records = [0], [""]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled under it: spares a wrapper around each operator

    def __enter__(self) -> Any:
        self._preserving = traceback.preserve_node_meta()  # traced nodes say to which record they belong
        self._preserving.__enter__()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._preserving.__exit__(*error)

    # Whose it is

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

    def _owner(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self.record
        number = node._sequence_nr()
        if number > torch.autograd._get_sequence_nr():  # type: ignore[attr-defined]
            return self.record  # a gradient that was just computed is put where it belongs
        record = self._records[bisect_right(self._numbers, number) - 1]
        if record != self.record:
            self.at(record)
        return record

    # Operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_fx_symbolic_tracing():  # what is traced is counted when it runs
            return func(*args, **kwargs)
        out, known = self.shapes.run(func, args, kwargs)
        if known.work is None:
            known.work = work_of(func, known.kind, args, kwargs, out)
        record = self._owner()
        if known.work.bytes:
            if record not in self.works:
                self.works[record] = Work()
            self.works[record].add(known.work)
        if known.kind == "fresh":
            for x in tensors_in((out,)):
                self.keep(x, record)
        return out

    # Memory

    def keep(self, x: Tensor, record: str) -> None:
        """Note that a tensor's storage is alive, for as long as it is."""
        storage = x.untyped_storage()
        key = storage._cdata
        if x.device.type != META or key in self._storages:
            return
        size = storage.nbytes()
        self._events.append((record, size))
        self._storages[key] = weakref.ref(storage, self._freed(key, record, size))

    def _freed(self, key: int, record: str, size: int) -> Callable[[Any], None]:
        def freed(_: Any) -> None:
            self._events.append((record, -size))
            self._storages.pop(key, None)

        return freed

    def peak(self) -> dict[str, float]:
        """What was alive, by record, when most bytes were."""
        now = most = place = 0
        for i, (_, size) in enumerate(self._events, 1):
            now += size
            if now > most:
                most, place = now, i
        found: dict[str, float] = {}
        for record, size in self._events[:place]:
            found[record] = found.get(record, 0) + size
        return {record: size for record, size in found.items() if size}


class OwnedSteps(Steps):
    """Bodies that are traced at once, and say which record is at work while they run. Their gradients are autograd's,
    operator by operator, so that each belongs to a record too."""

    def __init__(self) -> None:
        super().__init__(patience=0)
        self.hoists = False
        self.at: Callable[[str], None] = lambda record: None

    def key(self, key: Any, asked: Asked) -> Any:
        return id(asked.todo), super().key(key, asked)

    def called(self, graph: fx.GraphModule, handed: Mapping[int, int], stacks: str | None) -> Called:
        def at(record: str) -> None:
            self.at(record)

        with _disable_current_modes():  # nothing of this is run
            joined(graph.graph)
        now = ""
        for node in list(graph.graph.nodes):
            record = node.meta.get("custom", {}).get("record", now)
            if node.op == "call_function" and record != now:
                with graph.graph.inserting_before(node):
                    graph.graph.call_function(at, (record,))
                now = record
        graph.recompile()
        return lambda inputs, stretched: graph(*inputs)
