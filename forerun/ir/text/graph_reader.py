"""Reads graphs: the statements of a graph and of the bodies of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.contents import bytes_of_integers
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, Node
from forerun.ir.text.blocks import Block, Stopped
from forerun.ir.text.lexer import Fault
from forerun.ir.text.node_reader import NodeReader
from forerun.ir.text.spelling import FORMAT_VERSION, MAX_NESTING, MAX_RANK, MAX_SHAPE_BITS, reference
from forerun.ir.text.value_reader import CONDITIONAL_KINDS
from forerun.ir.types import DEVICE0, BufferRole, DType, Place

__all__ = ["GraphReader"]

_ROLES = {str(role): role for role in BufferRole}
_SIGILS = {"allocation": "$", "buffer": "%", "kernel": "@", "node": "#"}
_KINDS = ("copy", "fill", "host", "empty", "alloc", "free", "event_record", "event_wait", "child")


@dataclass
class _Scope:
    """What is known of the graph, or of the body, whose statements are being read; ``after`` is about ``target``."""

    name: str
    path: str
    depth: int
    allocations: dict[str, Allocation] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    dependencies: dict[tuple[str, str], Dependency] = field(default_factory=dict)
    target: str | None = None

    def graph(self) -> Graph:
        """The graph of all that was read."""
        tables = self.allocations.values(), self.buffers.values(), self.kernels.values()
        return Graph(self.name, *tables, self.nodes.values(), self.dependencies.values())


class GraphReader(NodeReader):
    """Graphs; remembers where each element stands."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text, name)
        self._scope = _Scope("", "", 0)

    def read(self) -> Graph | None:
        """Read a whole text; ``None`` if there are errors, which ``diagnostics`` then has."""
        try:
            self.seek(0)
            self._version()
            self._scope = _Scope(self._graph_name(""), "", 0)
            self.block(Block("", 0, self._statements()))
        except Fault as fault:
            self.diagnostics.append(fault.diagnostic)
        except Stopped:
            return None
        finally:
            self.close()
        return None if self.diagnostics else self._scope.graph()

    def _statements(self) -> dict[str, Callable[[], None]]:
        return {
            "alloc": self._allocation,
            "buffer": self._buffer,
            "kernel": self._kernel_declaration,
            "node": self._node,
            "after": self._after,
            "dep": self._dep,
        }

    def _version(self) -> None:
        hint = f"the first line of a graph's text is: forerun {FORMAT_VERSION}"
        if self.token != "forerun":
            self.fault_at(self.ordinal, "P1", "this is not the text form of a graph", hint, fatal=True)
        self.advance()
        if self.token != str(FORMAT_VERSION):
            self.fault_at(self.ordinal, "P1", "this version of the text form is not known", hint, fatal=True)
        self.advance()

    def _graph_name(self, path: str) -> str:
        if self.token != "graph":
            hint = "a graph and each body begin with their name: graph NAME"
            self.fault_at(self.ordinal, "P1", "expected 'graph' and a name", hint, fatal=not path)
        self.advance()
        self.places["graph", path] = self.ordinal
        return self.word("the name of the graph")

    # Memory

    def _allocation(self) -> None:
        ordinal = self.statement + 1
        self.advance()
        name = self.reference("$")
        self.expect(":")
        allocation = Allocation(name, self.integer(), self.place_or(DEVICE0))
        if self._declare("allocation", name, ordinal, self._scope.allocations):
            self._scope.allocations[name] = allocation

    def _buffer(self) -> None:
        ordinal = self.statement + 1
        self.advance()
        name = self.reference("%")
        self.expect(":")
        dtype = self.dtype()
        shape = self.enclosed("[", self.integer, "]")
        if len(shape) > MAX_RANK:
            self.fault_at(ordinal, "P9", f"the buffer has more than {MAX_RANK} dimensions")
        if sum(extent.bit_length() for extent in shape) > MAX_SHAPE_BITS:
            self.fault_at(ordinal, "P9", f"the buffer has more than 2^{MAX_SHAPE_BITS} elements")
        role = self.one_of("buffer role", _ROLES)
        index = self._index()
        bounds = self._bounds() if self.accept("in") else None
        ascending = bool(self.accept("ascending"))
        contents = self._contents(dtype) if self.accept("holds") else None
        if not self.accept("at"):
            buffer = Buffer(name, dtype, shape, role, name, 0, index, bounds, contents, ascending)
            self._declare_buffer(buffer, ordinal, self.place_or(DEVICE0))
            return
        allocation, offset = self.reference("$"), self.summand()
        if self.token == "on":
            self.fault_at(self.ordinal, "P11", "a buffer 'at' an allocation lives where the allocation does")
        buffer = Buffer(name, dtype, shape, role, allocation, offset, index, bounds, contents, ascending)
        self._declare_buffer(buffer, ordinal, None)

    def _declare_buffer(self, buffer: Buffer, ordinal: int, private: Place | None) -> None:
        """Declare a buffer and, if it has a place, the allocation that is exactly its memory."""
        scope, name = self._scope, buffer.name
        if not self._declare("buffer", name, ordinal, scope.buffers):
            return
        scope.buffers[name] = buffer
        if private is None:
            return
        if name in scope.allocations:
            self._declared_twice("allocation", name, ordinal)
        else:
            scope.allocations[name] = Allocation(name, buffer.size, private)

    def _index(self) -> Paged | Ragged | None:
        if self.accept("paged"):
            return self.parenthesised(self._paged)
        return Ragged(self.parenthesised(lambda: self.reference("%"))) if self.accept("ragged") else None

    def _paged(self) -> Paged:
        table = self.reference("%")
        self.expect(",")
        return Paged(table, self.integer())

    def _bounds(self) -> tuple[int, int]:
        low = self.integer()
        self.expect("..")
        return low, self.integer()

    def _contents(self, dtype: DType) -> bytes:
        """The elements, as integers; of floating point types their bits."""
        return bytes_of_integers(dtype, self.enclosed("[", self.integer, "]"))

    def _declare(self, kind: str, name: str, ordinal: int, table: Mapping[str, Any]) -> bool:
        """Remember where a name is declared; false if it is already."""
        if name in table:
            self._declared_twice(kind, name, ordinal)
            return False
        self.places[kind, self._scope.path + name] = ordinal
        self._scope.target = name if kind == "node" else None
        return True

    def _declared_twice(self, kind: str, name: str, ordinal: int) -> None:
        spelled, path = reference(_SIGILS[kind], name), self._scope.path
        first = self.places.get((kind, path + name))
        if first is None:  # an allocation that a buffer's line declares
            first = self.places["buffer", path + name]
        hint = f"a buffer without 'at' brings an allocation of its own; to view another, write: at {spelled}"
        self.duplicate(kind, spelled, ordinal, first, hint if kind == "allocation" else "")
        self._scope.target = None

    # Kernels

    def _kernel_declaration(self) -> None:
        ordinal = self.statement + 1
        self.advance()
        name = self.reference("@")
        is_new = self._declare("kernel", name, ordinal, self._scope.kernels)
        kernel = self.kernel(name, ordinal, self._scope.path)
        if is_new:
            self._scope.kernels[name] = kernel

    # Nodes

    def _node(self) -> None:
        scope, ordinal = self._scope, self.statement + 1
        self.advance()
        scope.target = None
        name = self.reference("#")
        self.expect("=")
        node = self.simple_node(name)
        if node is None:
            node = self._node_with_bodies(name, ordinal)
        if self._declare("node", name, ordinal, scope.nodes):
            scope.nodes[name] = node

    def _node_with_bodies(self, name: str, ordinal: int) -> Node:
        kind = self.token
        if kind == "child":
            self.advance()
            place = self.place_or(DEVICE0)
            return ChildGraphNode(name, self._body(name, ordinal), place)
        if kind == "conditional":
            self.advance()
            kind = self.string("the kind in quotes")
        elif kind in CONDITIONAL_KINDS:
            self.advance()
        elif kind in self._scope.kernels:
            self.fault_at(self.ordinal, "P6", f"unknown kind of node '{kind}'", f"did you mean '@{kind}'?")
        else:
            self.unknown("kind of node", (*_KINDS, *CONDITIONAL_KINDS, "@kernel"))
        condition = self.reference("%")
        place = self.place_or(DEVICE0)
        bodies = []
        while self.token in ("{", "else", "case"):
            if self.token != "{":
                self.advance()
            bodies.append(self._body(name, ordinal))
        return ConditionalNode(name, kind, condition, tuple(bodies), place)

    def _body(self, name: str, ordinal: int) -> Graph:
        outer = self._scope
        self.expect("{")
        if outer.depth >= MAX_NESTING:
            self.fault_at(self.ordinal, "P9", f"bodies are nested deeper than {MAX_NESTING}", fatal=True)
        path = f"{outer.path}{name}/"
        self._scope = _Scope(self._graph_name(path), path, outer.depth + 1)
        self.block(Block(f"node {reference('#', name)}", ordinal, self._statements()))
        body, self._scope = self._scope.graph(), outer
        return body

    # Dependencies

    def _after(self) -> None:
        target = self._scope.target
        if target is None and not self.diagnostics:  # after an error, the node may just not have been understood
            self.fault_at(self.statement, "P5", "'after' stands without the node that it is about")
        self.advance()
        dependency = self.dependency(self.reference("#"), target or "")
        if target is not None:
            self._declare_dependency(dependency)

    def _dep(self) -> None:
        self.advance()
        source = self.reference("#")
        self.expect("->")
        self._declare_dependency(self.dependency(source, self.reference("#")))

    def _declare_dependency(self, dependency: Dependency) -> None:
        scope, ordinal = self._scope, self.statement + 1
        name = f"{dependency.source} -> {dependency.target}"
        if dependency.pair in scope.dependencies:
            pair = f"{reference('#', dependency.source)} -> {reference('#', dependency.target)}"
            self.duplicate("dependency", pair, ordinal, self.places["dependency", scope.path + name])
            return
        scope.dependencies[dependency.pair] = dependency
        self.places["dependency", scope.path + name] = ordinal
