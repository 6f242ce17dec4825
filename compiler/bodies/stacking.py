"""Memories of equal shape share one step: their states lie stacked, and an operator that all of them need is called
once for the stack.

A body with several memories that learn side by side is mostly small products, and what costs is how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import torch
from nldsl.compiler.bodies.joining import joined
from nldsl.compiler.bodies.nodes import is_view, results_of, value
from nldsl.compiler.bodies.packs import Lanes, Packs, operands
from nldsl.compiler.bodies.tidy import tidied, writes
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
Places = tuple[int, ...]
LARGE = 1 << 16  # numbers: stacks of such states are not at hand in a CPU's caches, and that costs what they spare
VIEWS = (aten.view.default, aten._unsafe_view.default)


class Stacked:
    """A body whose states are stacked. graph: takes and gives stacks [lanes, ...] in place of those, and all else as it
    was; handed: as in `Body`, by the places there. inputs, results: which of the body's each of these is, by their
    places: several for a stack, along its first axis."""

    def __init__(self, body: fx.GraphModule, handed: Mapping[int, int], packs: Packs, device: str) -> None:
        given: list[fx.Node] = list(body.graph.find_nodes(op="placeholder"))
        stacks = [tuple(given.index(n) for n in pack) for pack in packs.packs() if pack[0].op == "placeholder"]
        self.inputs = _places(len(given), stacks)
        self.results = _places(len(results_of(body)), [tuple(handed[i] for i in lanes) for lanes in stacks])
        after = {i: tuple(handed[p] for p in old if p in handed) for i, old in enumerate(self.inputs)}
        self.handed = {i: self.results.index(places) for i, places in after.items() if places}
        run = _Run(body, packs, self.inputs, self.results)
        with FakeTensorMode(allow_fallback_kernels=True, allow_non_fake_inputs=True):
            like = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device) for x in map(value, given)]
            self.graph = make_fx(run)(*self.packed(like))
        tidied(self.graph.graph)

    def packed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A body's inputs -> those of the graph. Stacks are copies."""
        return [stack([inputs[i] for i in old]) if len(old) > 1 else inputs[old[0]] for old in self.inputs]

    def rows(self, rows: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """The same for chunks that follow one another, whose states are those of the first."""
        first = self.packed(rows[0])
        single = [(i, old[0]) for i, old in enumerate(self.inputs) if len(old) == 1]
        found = [first]
        for row in rows[1:]:
            inputs = [*first]
            for i, old in single:
                inputs[i] = row[old]
            found.append(inputs)
        return found

    def unpacked(self, results: Sequence[Tensor]) -> list[Tensor]:
        """The graph's results -> those of the body. Lanes are views; of what there is none of, there is none after."""
        found: list[Any] = [None] * sum(map(len, self.results))
        for old, x in zip(self.results, results, strict=True):
            lanes = x.unbind(0) if len(old) > 1 and x is not None else [x] * len(old)
            for i, lane in zip(old, lanes, strict=True):
                found[i] = lane
        return found


def stacked(body: fx.GraphModule, handed: Mapping[int, int], device: str) -> Stacked | None:
    """A body with its states stacked, None where that does not pay. Its products must not be joined yet (`joining.py`):
    which are depends on what a memory is read at, and lanes then differ. Those of the stacks are."""
    given: list[fx.Node] = list(body.graph.find_nodes(op="placeholder"))
    large = device == "cpu" and any(value(given[i]).numel() >= LARGE for i in handed)
    packs = None if large or writes(body.graph) else Packs(body, handed)
    if packs is None or not packs.packs():
        return None
    found = Stacked(body, handed, packs, device)
    if _calls(found.graph) >= _calls(body):
        return None
    joined(found.graph.graph)
    found.graph.recompile()
    return found


def _calls(graph: fx.GraphModule) -> int:
    return sum(node.op == "call_function" and not is_view(node) for node in graph.graph.nodes)


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Tensors along a new first axis, each laid out as it was."""
    first = parts[0]
    order = sorted(range(first.dim()), key=first.stride().__getitem__, reverse=True)
    back = [1 + order.index(axis) for axis in range(first.dim())]
    return torch.stack([x.permute(order) for x in parts]).permute(0, *back)


def _places(count: int, stacks: Sequence[Places]) -> list[Places]:
    """Places 0, 1, ..., those of a stack together where the first of them was."""
    whole = {place: places for places in stacks for place in places}
    return list(dict.fromkeys(whole.get(i, (i,)) for i in range(count)))


class _Run:
    """A body on stacks, a pack at once. known: what nodes gave, and packs and other lanes along a first axis; cuts:
    parts of packs."""

    def __init__(self, body: fx.GraphModule, packs: Packs, inputs: Sequence[Places], results: Sequence[Places]) -> None:
        self.body, self.packs = body, packs
        given: list[fx.Node] = list(body.graph.find_nodes(op="placeholder"))
        after = results_of(body)
        self.inputs = [tuple(given[i] for i in places) for places in inputs]
        self.results = [tuple(after[o] for o in places) for places in results]
        self.known: dict[Any, Any] = {}
        self.cuts: dict[Any, list[Any]] = {}

    def __call__(self, *given: Tensor) -> list[Tensor]:
        self.known = {n if len(n) > 1 else n[0]: x for n, x in zip(self.inputs, given, strict=True)}
        self.cuts.clear()
        for unit in self._sorted():
            if unit not in self.known:
                self.known[unit] = self._pack(unit) if isinstance(unit, tuple) else self._node(unit)
        return [self._lanes(nodes) if len(nodes) > 1 else self._one(nodes[0]) for nodes in self.results]

    def _sorted(self) -> list[Any]:
        """Nodes and packs, each behind what it needs."""
        needs: dict[Any, dict[Any, None]] = {}
        for node in self.body.graph.nodes:
            if node.op != "output":
                needs.setdefault(self._unit(node), {}).update((self._unit(n), None) for n in node.all_input_nodes)
        return list(TopologicalSorter(needs).static_order())

    def _unit(self, node: fx.Node) -> Any:
        return self.packs.at[node][0] if node in self.packs.at else node

    def _node(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return getattr(self.body, str(node.target))
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._one)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _pack(self, pack: Lanes) -> Any:
        """An operator of all lanes, called once."""
        first = pack[0]

        def one(*given: Any) -> Any:
            left = iter(given)
            args, kwargs = fx.map_arg((first.args, first.kwargs), lambda n: next(left))
            target: Any = torch.reshape if first.target in VIEWS else first.target  # stacks may lie in another way
            return target(*args, **kwargs)

        return torch.vmap(one)(*(self._lanes(lanes) for lanes in zip(*map(operands, pack), strict=True)))

    def _one(self, node: fx.Node) -> Any:
        """What a node gives."""
        if node not in self.packs.at:
            return self.known[node]
        pack, lane = self.packs.at[node]
        return self._cut(pack, None)[lane]

    def _lanes(self, lanes: Lanes) -> Any:
        """What these nodes give, along a first axis."""
        if lanes not in self.known:
            self.known[lanes] = self._stack(lanes)
        return self.known[lanes]

    def _stack(self, lanes: Lanes) -> Any:
        if len(set(lanes)) == 1:  # not left to broadcasting: gradients of large operands are summed lane by lane then
            return tree_map(lambda x: x.expand(len(lanes), *x.shape), self._one(lanes[0]))
        if self.packs.run(lanes):
            pack, first = self.packs.at[lanes[0]]
            sizes = [first, len(lanes), len(pack) - first - len(lanes)]
            return self._cut(pack, tuple(n for n in sizes if n))[1 if first else 0]
        runs: list[Lanes] = []
        for node in lanes:
            if runs and self.packs.run((*runs[-1], node)):
                runs[-1] += (node,)
            else:
                runs.append((node,))
        if len(runs) == len(lanes):
            return stack([self._one(n) for n in lanes])
        return torch.cat([self._lanes(run) for run in runs])

    def _cut(self, pack: Lanes, sizes: tuple[int, ...] | None) -> Any:
        """What a pack gives in parts of so many lanes, or lane by lane. All that need the same parts share them: the
        gradient of all is one stack then."""
        if (pack, sizes) not in self.cuts:
            leaves, form = tree_flatten(self.known[pack])
            cut = [x.unbind(0) if sizes is None else x.split_with_sizes(list(sizes)) for x in leaves]
            self.cuts[pack, sizes] = [tree_unflatten(same, form) for same in zip(*cut, strict=True)]
        return self.cuts[pack, sizes]
