"""Which operators of a traced body are done at once: packs of nodes, one to a lane, that do the same.

Memories of equal shape that learn side by side have the same products, slopes and updates. Packing starts at their
states and goes on to what uses these, and to what that needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nldsl.compiler.bodies.nodes import results_of
from torch import Tensor, fx

Lanes = tuple[fx.Node, ...]

LIGHT = 1 << 15  # numbers; an operand with more is never copied into a stack: rows are, weights are not
FAR = 6  # steps: states that are used in the same way so far are packed first


class Packs:
    """Packs of a graph's nodes. at: a node's pack, and its lane there. handed: as in `Body`.

    A pack of states is one when the chunk is over, in the same order: nothing of it is copied from chunk to chunk."""

    def __init__(self, graph: fx.GraphModule, handed: Mapping[int, int]) -> None:
        inputs: list[fx.Node] = list(graph.graph.find_nodes(op="placeholder"))
        results = results_of(graph)
        self.after = {inputs[i]: results[o] for i, o in handed.items()}
        self.kinds = {n: _kind(n) for n in graph.graph.nodes}
        self.at: dict[fx.Node, tuple[Lanes, int]] = {}
        torn: list[fx.Node] | None = None
        while torn is None or torn:
            for node in torn or ():
                del self.after[node]
            self.at.clear()
            for steps in range(FAR, 0, -1):
                for lanes in self._alike([n for n in self.after if _used(n) and n not in self.at], steps):
                    if self._pull(lanes, False):
                        self._grow()
            self._hold()
            torn = [n for pack in self.packs() if pack[0] in self.after and not self._lasts(pack) for n in pack]

    def packs(self) -> list[Lanes]:
        return list(dict.fromkeys(pack for pack, _ in self.at.values()))

    def run(self, lanes: Lanes) -> bool:
        """Whether nodes are lanes of one pack, one after the other."""
        pack, first = self.at.get(lanes[0], ((), 0))
        return bool(pack) and pack[first : first + len(lanes)] == lanes

    def _lasts(self, pack: Lanes) -> bool:
        after = tuple(self.after[n] for n in pack)
        return self.run(after) and len(self.at[after[0]][0]) == len(pack)

    def _hold(self) -> None:
        """Let states that a chunk sets and does not use be packed as they are set."""
        unused = {x: n for n, x in self.after.items() if not _used(n) and n not in self.at}
        for pack in self.packs():
            lanes = tuple(unused[n] for n in pack if n in unused)
            if len(lanes) == len(pack):
                self._pull(lanes, False)

    def _alike(self, states: Sequence[fx.Node], steps: int) -> list[Lanes]:
        """States that are used in the same way, so many steps far."""
        ways: dict[fx.Node, Any] = self.kinds
        for _ in range(steps):
            known: dict[Any, int] = {}
            numbers = {n: known.setdefault(way, len(known)) for n, way in ways.items()}
            ways = {n: (numbers[n], *sorted({numbers[u] for u in n.users})) for n in numbers}
        groups: dict[Any, list[fx.Node]] = {}
        for node in states:
            groups.setdefault(ways[node], []).append(node)
        return [tuple(group) for group in groups.values() if len(group) > 1]

    def _grow(self) -> None:
        """Pack what uses packs: first what all lanes have, and of that first what takes no copies."""
        widths = range(max(map(len, self.packs())), 1, -1)
        while any(self._follow(pack, w, light) for w in widths for light in (False, True) for pack in self.packs()):
            pass

    def _follow(self, pack: Lanes, width: int, light: bool) -> bool:
        """Pack users of a pack, at least so many. Returns whether there were any."""
        found = False
        for first, *others in self._users(pack):
            if len(others) + 1 < width:
                continue
            for one in first:
                lanes = (one, *(min(other, key=lambda n: self._distance(one, n)) for other in others))
                if not any(n in self.at for n in lanes) and self._pull(lanes, light):
                    found = True
                    if light:  # perhaps others need no copies now
                        return True
        return found

    def _users(self, pack: Lanes) -> list[list[list[fx.Node]]]:
        """Users that do the same with a pack: a list for each lane that has such."""
        ways: dict[Any, dict[int, list[fx.Node]]] = {}
        for lane, node in enumerate(pack):
            for user in node.users:
                if user not in self.at and user.op == "call_function":
                    places = tuple(i for i, x in enumerate(operands(user)) if x is node)
                    ways.setdefault((self.kinds[user], places), {}).setdefault(lane, []).append(user)
        return [[*lanes.values()] for lanes in ways.values() if len(lanes) > 1]

    def _distance(self, one: fx.Node, other: fx.Node) -> int:
        """How far the operands of two nodes are from being the same or packed together."""
        pairs = list(zip(operands(one), operands(other), strict=True))
        apart = [(a, b) for a, b in pairs if a is not b and self._pack_of(a) != self._pack_of(b)]
        return sum(1 if self.kinds[a] == self.kinds[b] else 2 for a, b in apart)

    def _pack_of(self, node: fx.Node) -> Any:
        return self.at[node][0] if node in self.at else node

    def _pull(self, lanes: Lanes, light: bool) -> bool:
        """Pack nodes, and what they need. light: what is small may be copied for it."""
        if len(set(lanes)) == 1 or self.run(lanes):
            return True
        if not self._packable(lanes):
            return False
        before = dict(self.at)
        self.at.update((n, (lanes, i)) for i, n in enumerate(lanes))
        for needed in zip(*map(operands, lanes), strict=True):
            if not self._pull(needed, light) and not (light and _small(needed)):
                self.at = before
                return False
        return True

    def _packable(self, lanes: Lanes) -> bool:
        if len(set(lanes)) < len(lanes) or any(n in self.at for n in lanes) or len({self.kinds[n] for n in lanes}) > 1:
            return False
        if any(n not in self.after if n.op != "call_function" else not n.all_input_nodes for n in lanes):
            return False
        random = torch.Tag.nondeterministic_seeded in getattr(lanes[0].target, "tags", ())
        return not random and self._apart(lanes)

    def _apart(self, lanes: Lanes) -> bool:
        """Whether none of these nodes needs another, all packs being done at once."""
        met: set[fx.Node] = set()
        todo = [u for n in lanes for u in n.users]
        while todo:
            node = todo.pop()
            if node in lanes:
                return False
            if node not in met:
                same = self.at[node][0] if node in self.at else (node,)
                met.update(same)
                todo += [u for n in same for u in n.users]
        return True


def operands(node: fx.Node) -> list[fx.Node]:
    """The nodes among an operator's arguments, in order, each as often as it stands there."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def _used(state: fx.Node) -> bool:
    return any(user.op != "output" for user in state.users)


def _kind(node: fx.Node) -> Any:
    """Equal for nodes that do the same, each to operands of its own."""
    target = None if node.op == "placeholder" else node.target
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: None)
    return node.op, target, str(args), str(kwargs), _form(node)


def _form(node: fx.Node) -> Any:
    x = node.meta.get("val")
    return (x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else None


def _small(lanes: Lanes) -> bool:
    """Whether tensors of one form are small enough to be copied into a stack."""
    x = lanes[0].meta.get("val")
    return isinstance(x, Tensor) and x.numel() <= LIGHT and len({_form(n) for n in lanes}) == 1
