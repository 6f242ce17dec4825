"""What of a graph takes turns, and in which order the rest may go: its strongly connected components, sorted.

networkx has both, but makes a graph of each step: that took longer than reading the program's text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from heapq import heapify, heappop, heappush

Graph = Mapping[str, Set[str]]  # from each node to those that come after it


def components(graph: Graph) -> Iterator[list[str]]:
    """Each component after those that lead to it; of several that may come next, the one with the graph's first node.
    Its nodes are in the order of the graph."""
    place = {node: i for i, node in enumerate(graph)}
    members = {place[c[0]]: c for c in (sorted(c, key=place.__getitem__) for c in _strong(graph))}
    of = {node: first for first, nodes in members.items() for node in nodes}
    waiting = dict.fromkeys(members, 0)
    for node, after in graph.items():
        for other in after:
            waiting[of[other]] += of[other] != of[node]
    ready = [c for c, count in waiting.items() if not count]
    heapify(ready)
    while ready:
        now = heappop(ready)
        yield members[now]
        for node in members[now]:
            for other in graph[node]:
                if of[other] != now:
                    waiting[of[other]] -= 1
                    if not waiting[of[other]]:
                        heappush(ready, of[other])


def _strong(graph: Graph) -> Iterator[list[str]]:
    """The components, by Gabow's algorithm: a walk keeps the nodes that it has entered, and which of them may still
    turn out to be the first of a component."""
    number: dict[str, int] = {}
    done: set[str] = set()
    entered: list[str] = []
    firsts: list[str] = []
    for root in graph:
        if root in number:
            continue
        walk = [("", iter((root,)))]  # each node that is being left, and where it still leads to
        while walk:
            node, left = walk[-1]
            for other in left:
                if other not in number:
                    number[other] = len(number)
                    entered.append(other)
                    firsts.append(other)
                    walk.append((other, iter(graph[other])))
                    break
                if other not in done:
                    while number[firsts[-1]] > number[other]:
                        firsts.pop()
            else:
                walk.pop()
                if firsts and firsts[-1] == node:
                    firsts.pop()
                    found = [entered.pop()]
                    while found[-1] != node:
                        found.append(entered.pop())
                    done.update(found)
                    yield found
