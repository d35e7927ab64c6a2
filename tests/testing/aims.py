"""Strategies aimed at the passes of these tests, and a pass of each kind that the plugin must tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import MemsetNode
from forerun.passes import Pass, PassContext
from forerun.testing import KernelShape, graphs

SMALL = KernelShape(roles=1, phases=2, partial=False, asynchronous=False)
_AFTER_INSERT_PDL: dict[str, Any] = {
    "after": "infer-dependencies,insert-pdl",
    "kernel_shape": replace(SMALL, waits=False),
    "max_nodes": 4,
}
_AIMS: Mapping[str, dict[str, Any]] = {
    "adds_no_full_edge": _AFTER_INSERT_PDL,
    "adds_full_edge_from_the_first": _AFTER_INSERT_PDL,
    "crosses_events": {"nodes": ("kernel", "event"), "max_nodes": 4},
    "reduces_as_if_full": {"order": "dag", "max_nodes": 4},
}


def aimed(subject: Pass) -> st.SearchStrategy[Graph]:
    """Small graphs that the pass is likely to change."""
    options = {"nodes": ("kernel",), "max_nodes": 3, "kernel_shape": SMALL, **_AIMS.get(type(subject).__name__, {})}
    return graphs(aimed_at=subject, **options)


def streams() -> st.SearchStrategy[Graph]:
    """For --forerun-graphs."""
    shape = replace(SMALL, waits=False)
    return graphs(
        order="stream", nodes=["kernel"], max_nodes=3, kernel_shape=shape, must_match=lambda graph: len(graph) > 1
    )


@dataclass(frozen=True)
class Nothing(Pass):
    """Never fires."""

    name: ClassVar[str] = "nothing"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        return graph


@dataclass(frozen=True)
class Raises(Pass):
    """Raises where there are two nodes."""

    name: ClassVar[str] = "raises"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        if len(graph) > 1:
            raise ValueError("two nodes are too many")
        return graph


@dataclass(frozen=True)
class ChangesFills(Pass):
    """Changes the value of every fill each time: not idempotent, and not what the graph meant."""

    name: ClassVar[str] = "changes-fills"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for node in graph:
            if isinstance(node, MemsetNode):
                edit.replace_node(replace(node, value=node.value + 1))
        return edit.commit()


@dataclass(frozen=True)
class Forgetful(ChangesFills):
    """Breaks the same, and says that it is not idempotent."""

    name: ClassVar[str] = "forgetful"
    idempotent: ClassVar[bool] = False


@dataclass(frozen=True)
class Dishonest(Pass):
    """Counts what it does not do."""

    name: ClassVar[str] = "dishonest"
    statistics: ClassVar[Mapping[str, str]] = {"changes": "not made"}

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        context.count("changes")
        return graph
