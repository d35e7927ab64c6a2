"""The graph: an immutable value over a ``networkx.DiGraph``, changed only through :meth:`Graph.edit`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from forerun.ir.analysis import TABLES, Analysis
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Node
from forerun.ir.types import DependencyKind
from forerun.support.diagnostics import InvalidInput
from forerun.support.display import display

if TYPE_CHECKING:
    from pathlib import Path

    import networkx as nx

    from forerun.ir.delta import Delta
    from forerun.ir.edit import GraphEdit

__all__ = ["Dependency", "Graph", "Hazard"]

_Named = TypeVar("_Named", Allocation, Buffer, Kernel)


@dataclass(frozen=True, slots=True, order=True)
class Hazard:
    """Why an order is needed: ``RAW``, ``WAR`` or ``WAW`` on bytes that the target accesses through ``buffer``."""

    kind: str
    buffer: str

    def __str__(self) -> str:
        return f"{self.kind} %{self.buffer}"


@dataclass(frozen=True, slots=True)
class Dependency:
    """An edge: ``target`` is ordered after ``source`` as ``kind`` says, because of ``hazards`` (empty: as given)."""

    source: str
    target: str
    kind: DependencyKind = DependencyKind.FULL
    hazards: tuple[Hazard, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """``(source, target)``."""
        return self.source, self.target


class Graph:
    """A program: nodes in launch order, typed dependencies between them, and what they run and touch.

    Nodes are kept in launch order: the order in which one stream would run them. It is a topological order of the
    dependencies (the verifier checks that), so passes may rely on it. A graph never changes; :meth:`edit` makes the
    next one. The constructor accepts broken graphs, which :func:`forerun.ir.verify.verify` judges; only names that
    are used twice cannot be represented.

    Args:
        name: An identifier.
        allocations: Memory.
        buffers: Views of the allocations.
        kernels: Functions that kernel nodes name.
        nodes: In launch order.
        dependencies: At most one for each ordered pair of nodes.

    Raises:
        InvalidInput: If a name or a pair occurs twice.
    """

    __slots__ = (
        "__weakref__",
        "_topology",
        "allocations",
        "buffers",
        "cache",
        "delta",
        "kernels",
        "name",
        "owner_of_tables",
    )

    name: str
    allocations: Mapping[str, Allocation]
    buffers: Mapping[str, Buffer]
    kernels: Mapping[str, Kernel]
    delta: Delta | None
    """What the edit that made this graph changed; ``None`` for a graph that no edit made."""
    _topology: nx.DiGraph[str]
    cache: dict[Analysis[Any], Any]
    """Results of analyses; filled in by :class:`forerun.ir.analysis.Analysis` alone."""
    owner_of_tables: Graph | None
    """For a body as a graph of its own, the graph whose tables it uses; what depends on tables alone is shared."""

    def __init__(
        self,
        name: str,
        allocations: Iterable[Allocation] = (),
        buffers: Iterable[Buffer] = (),
        kernels: Iterable[Kernel] = (),
        nodes: Iterable[Node] = (),
        dependencies: Iterable[Dependency] = (),
    ) -> None:
        from networkx import DiGraph  # takes as long to import as all that a graph needs besides it

        topology: nx.DiGraph[str] = DiGraph()
        for node in nodes:
            if node.name in topology:
                raise InvalidInput(f"node '{node.name}' occurs twice")
            topology.add_node(node.name, node=node)
        for dependency in dependencies:
            if topology.has_edge(*dependency.pair):
                pair = " -> ".join(dependency.pair)
                raise InvalidInput(f"dependency {pair} occurs twice", hint="a pair of nodes has one dependency")
            topology.add_edge(*dependency.pair, dependency=dependency)
        self._set(name, (_table(allocations), _table(buffers), _table(kernels)), topology, None)

    def _set(
        self, name: str, tables: Iterable[Mapping[str, Any]], topology: nx.DiGraph[str], delta: Delta | None
    ) -> None:
        # Those of another graph do not change, so they are shared.
        kept = (t if type(t) is MappingProxyType else MappingProxyType(dict(t)) for t in tables)
        values = {
            "name": name,
            **dict(zip(TABLES, kept, strict=True)),
            "_topology": topology,
            "delta": delta,
            "cache": {},
            "owner_of_tables": None,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @classmethod
    def _from_parts(
        cls, name: str, tables: Iterable[Mapping[str, Any]], topology: nx.DiGraph[str], delta: Delta | None = None
    ) -> Graph:
        """For :class:`GraphEdit` and bodies: takes over a topology that nobody changes any more."""
        graph = cls.__new__(cls)
        graph._set(name, tables, topology, delta)
        return graph

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Graph is immutable; use graph.edit()")

    @property
    def topology(self) -> nx.DiGraph[str]:
        """A read-only view of the networkx graph: nodes by name (attribute ``node``), edges (``dependency``)."""
        from networkx.classes.graphviews import generic_graph_view

        return generic_graph_view(self._topology)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Node by name, in launch order. Names that only dependencies mention (broken graphs) are left out."""
        return _nodes(self)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """All dependencies, by target in launch order, then by source in launch order."""
        return _dependencies(self)

    def node(self, name: str) -> Node:
        """The node of that name, without working out :attr:`nodes` of a graph that was just edited."""
        node: Node = self._topology._node[name]["node"]
        return node

    @property
    def is_complete(self) -> bool:
        """Whether dependencies mention no names but those of nodes (verifier rule G2)."""
        return len(self._topology) == len(self.nodes)

    def dependency(self, source: str, target: str) -> Dependency | None:
        """The dependency between two nodes, or ``None``."""
        data = self._topology.get_edge_data(source, target)
        return None if data is None else data["dependency"]

    def incoming(self, node: str) -> list[Dependency]:
        """The dependencies whose target is ``node``, in the order in which they were added."""
        return [data["dependency"] for data in self._topology.pred[node].values()]

    def outgoing(self, node: str) -> list[Dependency]:
        """The dependencies whose source is ``node``, in the order in which they were added."""
        return [data["dependency"] for data in self._topology.succ[node].values()]

    def has_outgoing(self, node: str) -> bool:
        """Whether any dependency leaves ``node``; a node without is a sink."""
        return bool(self._topology.succ[node])

    def edit(self) -> GraphEdit:
        """Begin a transaction; its ``commit()`` is the next graph."""
        from forerun.ir.edit import GraphEdit

        return GraphEdit(self)

    def with_tables_of(self, other: Graph) -> Graph:
        """The same nodes and dependencies over the tables of another graph: a body as a graph of its own."""
        graph = Graph._from_parts(self.name, ({}, {}, {}), self._topology)
        for table in TABLES:
            object.__setattr__(graph, table, getattr(other, table))  # not copied: there may be thousands of bodies
        object.__setattr__(graph, "owner_of_tables", other)
        return graph

    def without_tables(self) -> Graph:
        """The same nodes and dependencies with empty tables, as bodies have them; it keeps its delta."""
        return Graph._from_parts(self.name, ({}, {}, {}), self._topology, self.delta)

    def count_dependencies(self) -> dict[str, int]:
        """How many dependencies there are of each kind, by the kind's name."""
        counts = Counter(dependency.kind for _, _, dependency in self._topology.edges(data="dependency"))
        return {str(kind): counts[kind] for kind in DependencyKind}

    def save(self, path: str | Path) -> Path:
        """Write the text form to a file (``.fir``), for :func:`forerun.load` and the commands; returns the path.

        Raises:
            InvalidInput: If it cannot be written, or the graph names functions that no other program could find.
        """
        saved: Path = display("graph.save", self, path)
        return saved

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            self.name == other.name
            and list(self.nodes.values()) == list(other.nodes.values())
            and set(self.dependencies) == set(other.dependencies)
            and self.allocations == other.allocations
            and self.buffers == other.buffers
            and self.kernels == other.kernels
        )

    def __hash__(self) -> int:
        return hash((self.name, len(self), tuple(self.nodes)))

    def __str__(self) -> str:
        """The text form; of long sections the first lines."""
        return str(display("graph.text", self))

    def _repr_svg_(self) -> str | None:
        return display("graph.svg", self)  # type: ignore[no-any-return]

    def _repr_html_(self) -> str:
        return str(display("graph.html", self))

    def __repr__(self) -> str:
        edges = self._topology.number_of_edges()
        return f"<Graph {self.name}: {len(self)} nodes, {edges} dependencies, {len(self.buffers)} buffers>"


def _find_nodes(graph: Graph) -> Mapping[str, Node]:
    found = {name: data["node"] for name, data in graph._topology.nodes.items() if "node" in data}
    return MappingProxyType(found)


def _sort_dependencies(graph: Graph) -> tuple[Dependency, ...]:
    place = {name: i for i, name in enumerate(graph._topology)}
    unsorted = [dependency for _, _, dependency in graph._topology.edges(data="dependency")]
    return tuple(sorted(unsorted, key=lambda d: (place[d.target], place[d.source])))


_nodes = Analysis({"nodes"}, _find_nodes)
_dependencies = Analysis({"nodes", "dependencies"}, _sort_dependencies)


def _table(items: Iterable[_Named]) -> dict[str, _Named]:
    table: dict[str, _Named] = {}
    for item in items:
        if item.name in table:
            raise InvalidInput(f"{type(item).__name__.lower()} '{item.name}' occurs twice")
        table[item.name] = item
    return table
