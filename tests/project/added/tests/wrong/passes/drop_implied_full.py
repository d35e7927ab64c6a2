"""A wrong pass that drops dependencies."""

import networkx as nx

from forerun.ir.graph import Graph
from tests.wrong.wrong_pass import reduced, wrong_pass


@wrong_pass("race", "paths of dependencies of any kind imply full ones")
def takes_any_path_for_full(graph: Graph) -> Graph:
    return reduced(graph, lambda d: d.pair not in nx.transitive_reduction(graph.topology).edges)
