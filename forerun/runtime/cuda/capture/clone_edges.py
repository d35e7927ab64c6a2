"""The edges of clones of captured graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from forerun.ir.graph import Dependency, Graph
from forerun.ir.types import DependencyKind
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["set_edges", "without"]

_TRIGGERED = 1  # CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC
_STARTED = 2  # CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER


def without(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph without some nodes; what came before each of them comes before what followed it."""
    edit = graph.edit()
    for name in names:
        incoming, outgoing = edit.incoming(name), edit.outgoing(name)
        edit.remove_node(name)
        for source in incoming:
            for target in outgoing:
                edit.add_dependency(Dependency(source.source, target.target))
    return edit.commit()


def set_edges(driver: Driver, graph: Any, nodes: Mapping[str, Any], before: Graph, after: Graph) -> None:
    """Give a clone of the graph before the edges of the one after.

    Args:
        driver: The driver.
        graph: The clone.
        nodes: Its nodes, by their names.
        before: What it was imported as.
        after: A graph of the same nodes, or of some of them.

    Raises:
        CudaError: If the driver refuses.
    """
    old = {dependency.pair: dependency for dependency in before.dependencies}
    new = {dependency.pair: dependency for dependency in after.dependencies}
    gone = [one for pair, one in old.items() if pair not in new or new[pair].kind is not one.kind]
    come = [one for pair, one in new.items() if pair not in old or old[pair].kind is not one.kind]
    for function, changed in (("cuGraphRemoveDependencies", gone), ("cuGraphAddDependencies", come)):
        for same in _by_kind(changed):
            sources, targets = ([nodes[one.pair[end]] for one in same] for end in (0, 1))
            driver.call(function, graph, sources, targets, [_edge(driver, one) for one in same], len(same))


def _by_kind(dependencies: Iterable[Dependency]) -> Iterable[list[Dependency]]:
    """Dependencies of one kind together: one call gives all edges the kind of the first (driver 580, bindings 13.3)."""
    found: dict[DependencyKind, list[Dependency]] = {}
    for one in dependencies:
        found.setdefault(one.kind, []).append(one)
    return found.values()


def _edge(driver: Driver, dependency: Dependency) -> Any:
    edge = driver.api.CUgraphEdgeData()
    if dependency.kind is not DependencyKind.FULL:
        edge.type = driver.api.CUgraphDependencyType.CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
        edge.from_port = _TRIGGERED if dependency.kind is DependencyKind.PROGRAMMATIC else _STARTED
    return edge
