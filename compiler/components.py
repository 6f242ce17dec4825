"""What of a graph takes turns, and in which order the rest may go: its strongly connected components, sorted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from graphlib import TopologicalSorter
from heapq import heapify, heappop, heappush

import networkx as nx

Graph = Mapping[str, Set[str]]  # from each node to those that come after it


def components(graph: Graph) -> Iterator[list[str]]:
    """Each component after those that lead to it; of several that may come next, the one with the graph's first node.
    Its nodes are in the order of the graph."""
    place = {node: i for i, node in enumerate(graph)}
    whole: nx.DiGraph[str] = nx.DiGraph()
    whole.add_nodes_from(graph)
    whole.add_edges_from((node, other) for node, after in graph.items() for other in after)
    strong = (sorted(c, key=place.__getitem__) for c in nx.strongly_connected_components(whole))
    members = {place[nodes[0]]: nodes for nodes in strong}
    of = {node: first for first, nodes in members.items() for node in nodes}
    order: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(members, ()))
    for node, after in graph.items():
        for other in after:
            if of[other] != of[node]:
                order.add(of[other], of[node])
    order.prepare()
    ready = [*order.get_ready()]
    heapify(ready)
    while ready:
        now = heappop(ready)
        yield members[now]
        order.done(now)
        for c in order.get_ready():
            heappush(ready, c)
