"""Small graphs and small passes, honest and otherwise, for the tests of the pass infrastructure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import EmptyNode, MemsetNode
from forerun.ir.types import DType
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.registry import register
from forerun.passes.instrument import Instrument, default_instruments
from forerun.support.diagnostics import Location, Unsupported


def lenient(dump: Path | None = None) -> list[Instrument]:
    """All checks, but ``test-add`` may change what a graph means: no certificate knows that."""
    return default_instruments(dump, allow_unsupported=True)


def fills(count: int) -> Graph:
    """``count`` fills of buffers of their own, in stream order: every dependency may go."""
    builder = GraphBuilder("fills")
    for i in range(count):
        builder.output(f"o{i}", DType.U32, (4,))
        builder.fill(f"o{i}", node=f"n{i}")
    return builder.build()


def overwritten() -> Graph:
    """Two fills of one buffer: their order matters."""
    builder = GraphBuilder("overwritten")
    builder.output("o", DType.U32, (4,))
    builder.fill("o", 1, node="first")
    builder.fill("o", 2, node="second")
    return builder.build()


def values(graph: Graph) -> list[int]:
    return [node.value for node in graph if isinstance(node, MemsetNode)]


@register
@dataclass(frozen=True)
class Drop(Pass):
    """Drops dependencies between fills.

    It does not look at what they are for.
    """

    name: ClassVar[str] = "test-drop"
    statistics: ClassVar[Mapping[str, str]] = {"dropped": "dependencies dropped", "seen": "dependencies looked at"}

    keep: int = option(0, help="how many stay")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for dependency in graph.dependencies[self.keep :]:
            context.observe("seen")
            if context.should_apply():
                edit.remove_dependency(*dependency.pair)
                context.count("dropped")
                context.remark("dropped", Location("dependency", " -> ".join(dependency.pair)))
        return edit.commit()


@register
@dataclass(frozen=True)
class Add(Pass):
    """Adds to the value of every fill."""

    name: ClassVar[str] = "test-add"

    amount: int = option(1, help="how much")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for node in graph:
            if isinstance(node, MemsetNode) and context.should_apply("add"):
                edit.replace_node(replace(node, value=node.value + self.amount))
        return edit.commit()


@register
@dataclass(frozen=True)
class Nothing(Pass):
    """Does nothing."""

    name: ClassVar[str] = "test-nothing"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        return graph


@register
@dataclass(frozen=True)
class Reverse(Pass):
    """Adds a dependency that points backwards, which is not valid."""

    name: ClassVar[str] = "test-reverse"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        first, *_, last = graph.nodes
        edit = graph.edit()
        edit.set_dependency(Dependency(last, first))
        return edit.commit()


@register
@dataclass(frozen=True)
class Fail(Pass):
    """Raises, or returns what is no graph."""

    name: ClassVar[str] = "test-fail"

    how: Literal["raise", "unsupported", "none"] = option("raise", help="in what way")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        if self.how == "unsupported":
            raise Unsupported("fills are not supported", hint="use copies")
        if self.how == "none":
            return None  # type: ignore[return-value]
        raise KeyError("lost")


@register
@dataclass(frozen=True)
class Mutate(Pass):
    """Changes the graph that it gets, in place."""

    name: ClassVar[str] = "test-mutate"

    what: Literal["topology", "node", "table"] = option("topology", help="what it changes")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        name, *_ = graph.nodes
        if self.what == "topology":
            graph._topology.remove_edge(*graph.dependencies[0].pair)
        elif self.what == "node":
            object.__setattr__(graph.nodes[name], "value", 9)
        else:
            object.__setattr__(graph, "buffers", {})
        return graph


@register
@dataclass(frozen=True)
class Lie(Pass):
    """Says that it changed something, or returns a copy."""

    name: ClassVar[str] = "test-lie"
    statistics: ClassVar[Mapping[str, str]] = {"changes": "changes that were not made"}

    how: Literal["count", "apply", "copy", "copy-and-count"] = option("count", help="in what way")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        if "count" in self.how:
            context.count("changes", 2)
        if self.how == "apply":
            context.should_apply("rule")
        if "copy" not in self.how:
            return graph
        return Graph(
            graph.name,
            graph.allocations.values(),
            graph.buffers.values(),
            graph.kernels.values(),
            graph.nodes.values(),
            graph.dependencies,
        )


@register
@dataclass(frozen=True)
class Join(Pass):
    """Adds empty nodes at the end."""

    name: ClassVar[str] = "test-join"

    count: int = option(1, help="how many")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for number in range(self.count):
            edit.add_node(EmptyNode(f"join{number}"))
        return edit.commit()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@register
@dataclass(frozen=True)
class Optioned(Pass):
    """Has options of every type."""

    name: ClassVar[str] = "test-options"

    flag: bool = option(False, help="a switch")
    count: int = option(3, help="how many")
    ratio: float = option(0.5, help="how much")
    text: str = option("", help="what to say")
    mode: Literal["fast", "slow"] = option("fast", help="how")
    colour: Colour = option(Colour.RED, help="which")
    max_count: int | None = option(None, help="perhaps a bound")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        return graph


@dataclass(frozen=True)
class Unregistered(Pass):
    """Is known by its import path only."""

    name: ClassVar[str] = "test-unregistered"

    count: int = option(0, help="any number")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        return graph
