"""``fuse-splits``: as few changes of place as the hazards allow, and copies at the borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.passes.infer_dependencies import hazard_dependencies
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.registry import register
from forerun.passes.placing.patterns import matches, require_matching
from forerun.passes.splits.copies import Copies, planned_copies
from forerun.passes.splits.order import count_splits, fewest_splits, place_of, splits
from forerun.passes.splits.versions import far_uses, settled
from forerun.support.diagnostics import InvalidInput

__all__ = ["FuseSplits"]


@register
@dataclass(frozen=True)
class FuseSplits(Pass):
    """Orders nodes for the fewest splits, and lets kernels use buffers of their own places.

    A split is a maximal run of nodes of one place. Nodes change places in launch order as far as their hazards allow;
    with two places the number of splits that comes out is the least there is, with k places at most k times that.

    A kernel on the host uses memory of the host, and one on a device memory of that device. What only the host uses
    lies there afterwards, weights included; what nodes of several places use gets a version at each. It is copied once,
    not once a use, as early as the data is there: right after the node that writes it. Weights that lie on the host and
    are used by one kernel of a device are fetched ahead into slots that they use in turns.

    The dependencies are those of the hazards, as ``infer-dependencies`` has them; what makes dependencies programmatic
    comes later. A graph whose nodes are all of one place stays the very same.
    """

    name: ClassVar[str] = "fuse-splits"
    changes: ClassVar[frozenset[str]] = frozenset({"nodes", "dependencies", "memory"})
    statistics: ClassVar[Mapping[str, str]] = {
        "splits_removed": "fewer splits than in launch order",
        "allocations_moved": "allocations that only the host uses, and that lie there now",
        "copies_added": "copies between places",
        "splits": "splits that there are now",
        "bytes_copied": "bytes that the added copies move in a replay",
    }

    slots: int = option(2, help="for how many kernels weights of the host are on a device at a time; 0 for all")
    direct: str = option("", help="patterns of weights of the host that a device's kernels read where they are")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slots < 0:
            raise InvalidInput(f"pass 'fuse-splits': slots is {self.slots}", hint="give 0 or more")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with fewer splits, and with copies."""
        weights = [name for name, buffer in graph.buffers.items() if buffer.role is BufferRole.WEIGHT]
        require_matching("pass 'fuse-splits': direct", self.direct, weights, "weight", "%")
        direct = {name for name in weights if matches(self.direct, name)}
        begin, moved = graph, settled(graph)
        if moved is not graph and context.should_apply():
            context.count("allocations_moved", len(moved.delta.allocations) if moved.delta is not None else 0)
            graph = moved
        far = far_uses(graph, direct)
        while True:
            order = _fewest(graph)
            if (order == list(graph.nodes) and not far) or not context.should_apply():
                break
            planned = planned_copies(graph, order, far, self.slots)
            context.count("splits_removed", len(splits(graph)) - _count(graph, order))
            context.count("copies_added", len(planned.nodes) - len(order))
            context.observe("bytes_copied", planned.bytes)
            # Again: a node that works on a copy may leave its split, and what waited for it may join another.
            after = _rebuilt(graph, planned)
            if graph is not begin and after.delta is not None and graph.delta is not None:
                after.delta.include(graph.delta)
            graph, far = after, {}
        context.observe("splits", len(splits(graph)))
        return graph


def _fewest(graph: Graph) -> list[str]:
    """The nodes in an order with few splits, in which those that conflict stay as they are."""
    places = {name: place_of(graph, node) for name, node in graph.nodes.items()}
    if len(set(places.values()) - {None}) < 2:
        return list(graph.nodes)
    sources: dict[str, list[str]] = {}
    for source, target in hazard_dependencies(graph):
        sources.setdefault(target, []).append(source)
    return fewest_splits(list(graph.nodes), sources, places)


def _count(graph: Graph, order: Sequence[str]) -> int:
    return count_splits(order, {name: place_of(graph, node) for name, node in graph.nodes.items()})


def _rebuilt(graph: Graph, planned: Copies) -> Graph:
    """The graph with other nodes in another order, under the dependencies of their hazards."""
    edit = graph.edit()
    for allocation in planned.allocations:
        edit.set_allocation(allocation)
    for buffer in planned.buffers:
        edit.set_buffer(buffer)
    for name in graph.nodes:
        edit.remove_node(name)
    for node in planned.nodes:
        edit.add_node(node)
    placed = edit.commit()
    for dependency in hazard_dependencies(placed).values():
        edit.set_dependency(dependency)
    after = edit.commit()
    if after is not placed and after.delta is not None and placed.delta is not None:
        after.delta.include(placed.delta)
    return after
