"""The components of a graph, in order, against networkx."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st
from nldsl.compiler.components import components

NODES = [f"{n}/" for n in range(9)]
EDGES = st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=24)


@given(st.permutations(NODES), EDGES)
def test_components_come_in_the_order_of_the_graph(nodes: list[str], edges: list[tuple[str, str]]) -> None:
    graph = {node: {b for a, b in edges if a == node} for node in nodes}
    whole = nx.condensation(nx.DiGraph(graph))
    members = {c: sorted(whole.nodes[c]["members"], key=nodes.index) for c in whole}
    ordered = nx.lexicographical_topological_sort(whole, key=lambda c: nodes.index(members[c][0]))
    assert list(components(graph)) == [members[c] for c in ordered]
