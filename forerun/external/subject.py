"""What is debugged: a captured graph, or what :func:`forerun.optimize` made of it, with the code that its nodes run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from forerun.external.node_texts import NodeTexts, node_texts
from forerun.frontends.captured import ImportedGraph, import_capture
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.clone import NodeCode
from forerun.runtime.cuda.capture.host_sources import changed_sources
from forerun.runtime.cuda.capture.session import LiveCapture, read_graph

__all__ = ["Subject"]


@runtime_checkable
class _Optimized(Protocol):
    """What is read of an optimized graph."""

    @property
    def live(self) -> LiveCapture: ...
    @property
    def imported(self) -> ImportedGraph: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def made(self) -> Mapping[str, MadeCode]: ...
    @property
    def folded_contents(self) -> Mapping[int, bytes]: ...


@dataclass(frozen=True)
class Subject:
    """A graph, and all that is needed to run it with changed code.

    Attributes:
        live: The program's graph.
        imported: Its meaning.
        graph: What runs.
        made: The new code in it, by the kernels' names.
        folded: The copies that its replays do not repeat, with what they brought, by the number of the node.
    """

    live: LiveCapture
    imported: ImportedGraph
    graph: Graph
    made: Mapping[str, MadeCode]
    folded: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Any) -> Subject:
        """The subject that a graph is.

        Args:
            graph: What :func:`forerun.optimize` returned or takes.

        Raises:
            InvalidInput: If it is not a graph.
            Unsupported: If its kernels were not seen when they were loaded.
        """
        if isinstance(graph, _Optimized):
            return cls(graph.live, graph.imported, graph.graph, graph.made, graph.folded_contents)
        live = read_graph(graph)
        imported = import_capture(live.graph)
        return cls(live, imported, imported.graph, {})

    def changed_sources(self) -> Mapping[str, bool]:
        """The copies from the host whose source is not as it was recorded; whether replays do not repeat the copy."""
        recorded = {**self.live.host_sources, **self.folded}
        changed = changed_sources(self.live.driver, self.live.graph, recorded)
        return {self.imported.names[number]: number in self.folded for number in changed}

    @cached_property
    def texts(self) -> NodeTexts:
        """The PTX that its nodes run."""
        return node_texts(self.live, self.imported.names, self.graph, self.made)

    @cached_property
    def codes(self) -> Mapping[str, NodeCode]:
        """The code of the nodes that do not run the program's own."""
        before = self.imported.graph
        changed = (one for one in self.graph if isinstance(one, KernelNode) and one != before.nodes[one.name])
        return {one.name: NodeCode(self.made[one.kernel].code) for one in changed}
