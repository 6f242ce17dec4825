"""What a training step and a state really take, measured on real tensors: shares nothing with the cost model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from nldsl.compiler import compiled
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from nldsl.graph import LevelGraph, Port
from nldsl.vocabulary import vocabularies


class Real:
    """A program with numbers, behind two training steps: its bodies are traced, its optimizers have their states."""

    def __init__(self, graph: LevelGraph, batch: int, length: int) -> None:
        self.graph, self.module = graph, compiled(graph)
        self.module.runner.steps.patience = 0
        generator = torch.Generator().manual_seed(0)
        self.streams = [self._drawn(p, batch, length, generator) for p in graph.tick.inputs]
        self.optimizers = self.module.optimizers()
        for _ in range(2):
            self._step()

    def _drawn(self, port: Port, batch: int, length: int, generator: torch.Generator) -> Tensor:
        shape = (batch, length, *([port.heads] if port.heads else []), *map(int, port.shape))
        if port.dtype == "int":
            return torch.randint(vocabularies(self.graph).get(port.id, 8), shape, generator=generator)
        x = torch.randn(shape, generator=generator)
        return x if self.graph.loss else x.requires_grad_()  # as inside a network

    def _step(self) -> None:
        if self.graph.loss:
            self.module.backward(*self.streams)
        else:
            outs = self.module(*self.streams)[:-1]
            asked = [x for x in outs if x.requires_grad]
            if asked:
                torch.autograd.backward(asked, [torch.ones_like(x) for x in asked])
        for optimizer in self.optimizers:
            optimizer.step()
        self._forget()

    def _forget(self) -> None:
        for x in (*self.module.parameters(), *self.streams):
            x.grad = None

    def flops(self) -> int:
        """Of one training step, by torch's counter; attention on a CPU, which it leaves out, by its own formula."""
        aten = torch.ops.aten
        attention = {
            aten._scaled_dot_product_flash_attention_for_cpu: _of_shapes(sdpa_flop),
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _of_shapes(sdpa_backward_flop),
        }
        with FlopCounterMode(display=False, custom_mapping=attention) as counter:
            self._step()
        return int(counter.get_total_flops())

    def peak(self) -> int:
        """The most bytes of storages alive at once in one training step."""
        kept = [x for o in self.optimizers for x in tree_leaves(dict(o.state)) if isinstance(x, Tensor)]
        with Alive([*self.module.parameters(), *self.streams, *kept]) as alive:
            self._step()
        return alive.most

    def state(self) -> int:
        """Bytes of the state behind the streams, the last token read by itself, each storage once."""
        with torch.no_grad():
            state = self.module(*(x[:, :-1] for x in self.streams))[-1]
            state = self.module(*(x[:, -1:] for x in self.streams), state=state)[-1]
        sizes = {}
        own = {p.untyped_storage().data_ptr() for p in self.module.parameters()}
        for x in tree_leaves([{n: v for n, v in part.items() if n not in ("rows", "tick")} for part in state["parts"]]):
            if x.untyped_storage().data_ptr() not in own:
                sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return sum(sizes.values())


def _of_shapes(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A formula as the counter's table has them, which hands it the result."""

    def counted(*args: Any, out_val: Any = None, **kwargs: Any) -> Any:
        return formula(*args, out_val=out_val, **kwargs)

    counted._get_raw = True  # type: ignore[attr-defined]
    return counted


class Alive(TorchDispatchMode):
    """Watches which storages come and go. most: the most bytes at once."""

    def __init__(self, already: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: dict[int, Any] = {}
        for x in already:
            self._met(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._met(x)
        return out

    def _met(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self.seen:
            return

        def gone(_: Any) -> None:
            self.now -= size
            del self.seen[address]

        self.seen[address] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)
