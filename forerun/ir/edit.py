"""The one door through which graphs change: a transaction that commits to a new graph and records its delta."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from forerun.ir.analysis import carry_over
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.declaration import contradiction, runs_code_of
from forerun.ir.delta import Delta
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Role
from forerun.ir.nodes import KernelNode, Node
from forerun.ir.types import DependencyKind
from forerun.support.diagnostics import Diagnostic, InternalError, InvalidInput, Location, did_you_mean

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphEdit"]


class GraphEdit:
    """A transaction on a graph. The graph that it began from stays as it is.

    Errors in the use of an edit (an unknown name, a name that is taken) are errors of the pass that edits, and raise
    :class:`InternalError` at once. So does, as :class:`InvalidInput`, a kernel that says of declared code that it
    accesses something else. Everything else is left to the verifier.
    """

    def __init__(self, graph: Graph) -> None:
        self.base = graph
        self.delta = Delta()
        self._name = graph.name
        self._allocations = dict(graph.allocations)
        self._buffers = dict(graph.buffers)
        self._kernels = dict(graph.kernels)
        self._own_topology: nx.DiGraph[str] | None = None
        self._order: list[str] | None = None

    @property
    def _topology(self) -> nx.DiGraph[str]:
        """Copied at the first change, so that an edit without changes costs nothing."""
        if self._own_topology is None:
            self._own_topology = self.base._topology.copy()
        return self._own_topology

    def _read(self) -> nx.DiGraph[str]:
        return self.base._topology if self._own_topology is None else self._own_topology

    # Nodes

    def __contains__(self, name: str) -> bool:
        """Whether there is a node of that name."""
        return "node" in self._read().nodes.get(name, ())

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes as edited so far: those of the base in launch order, then the new ones."""
        return (name for name, data in self._read().nodes.items() if "node" in data)

    def node(self, name: str) -> Node:
        """The node of that name as edited so far."""
        data = self._read().nodes.get(name)
        if data is None or "node" not in data:
            raise InternalError(f"edit: no node '{name}'", hint=did_you_mean(name, self._read()))
        node: Node = data["node"]
        return node

    def add_node(self, node: Node, *, before: str | None = None) -> None:
        """Add a node at the end of the launch order, or just before another."""
        if node.name in self:
            raise InternalError(f"edit: node '{node.name}' exists already")
        if before is not None:
            self.node(before)
            if self._order is None:
                self._order = list(self._topology)
            self._order.insert(self._order.index(before), node.name)
        elif self._order is not None:
            self._order.append(node.name)
        self._topology.add_node(node.name, node=node)
        self.delta.nodes[node.name] = None
        self.delta.reorders = True

    def replace_node(self, node: Node) -> None:
        """Put another node in the place of the one with the same name; its dependencies stay."""
        if self.node(node.name) == node:
            return
        self._topology.nodes[node.name]["node"] = node
        self.delta.nodes[node.name] = None

    def remove_node(self, name: str) -> None:
        """Remove a node and its dependencies. Orders that ran through it are lost: reconnect what needs them."""
        self.node(name)
        for pair in (*self._topology.in_edges(name), *self._topology.out_edges(name)):
            self.delta.dependencies[pair] = None
        self._topology.remove_node(name)
        if self._order is not None:
            self._order.remove(name)
        self.delta.nodes[name] = None
        self.delta.reorders = True

    def record_fusion(self, node: str, parts: Iterable[str]) -> None:
        """Claim that a new kernel node does what some nodes of the base do, one after the other, and nothing else.

        Several new nodes may stand for the same old one, which then is computed more than once. The node keeps the
        claim (:attr:`~forerun.ir.nodes.KernelNode.fuses`); for a part that is fused itself, it names what that stands
        for.
        """
        fused = self.node(node)
        if not isinstance(fused, KernelNode):
            raise InternalError(f"edit: node '{node}' launches no kernel, so it stands for no others")
        names = (name for part in parts for name in getattr(self.base.nodes.get(part), "fuses", ()) or (part,))
        self.replace_node(replace(fused, fuses=tuple(dict.fromkeys(names))))

    # Dependencies

    def incoming(self, node: str) -> list[Dependency]:
        """The dependencies whose target is ``node``, as edited so far."""
        return [data["dependency"] for data in self._read().pred[node].values()]

    def outgoing(self, node: str) -> list[Dependency]:
        """The dependencies whose source is ``node``, as edited so far."""
        return [data["dependency"] for data in self._read().succ[node].values()]

    def dependency(self, source: str, target: str) -> Dependency | None:
        """The dependency between two nodes as edited so far, or ``None``."""
        data = self._read().get_edge_data(source, target)
        return None if data is None else data["dependency"]

    def add_dependency(self, dependency: Dependency) -> None:
        """Add a dependency. If the pair has one, the stronger kind stays and the hazards are united."""
        self.node(dependency.source)
        self.node(dependency.target)
        present = self.dependency(*dependency.pair)
        if present is not None:
            kind = max(present.kind, dependency.kind, key=_STRENGTH.__getitem__)
            hazards = tuple(sorted({*present.hazards, *dependency.hazards}))
            dependency = replace(dependency, kind=kind, hazards=hazards)
        self.set_dependency(dependency)

    def set_dependency(self, dependency: Dependency) -> None:
        """Add a dependency, or replace the one that the pair has."""
        if self.dependency(*dependency.pair) == dependency:
            return
        self._topology.add_edge(*dependency.pair, dependency=dependency)
        self.delta.dependencies[dependency.pair] = None

    def remove_dependency(self, source: str, target: str) -> None:
        """Remove a dependency."""
        if self.dependency(source, target) is None:
            raise InternalError(f"edit: no dependency {source} -> {target}")
        self._topology.remove_edge(source, target)
        self.delta.dependencies[source, target] = None

    # Memory and kernels

    @property
    def buffers(self) -> Mapping[str, Buffer]:
        """The buffers as edited so far, by name."""
        return MappingProxyType(self._buffers)

    @property
    def kernels(self) -> Mapping[str, Kernel]:
        """The kernels as edited so far, by name."""
        return MappingProxyType(self._kernels)

    def set_allocation(self, allocation: Allocation) -> None:
        """Add an allocation, or replace the one of that name."""
        if self._allocations.get(allocation.name) != allocation:
            self._allocations[allocation.name] = allocation
            self.delta.allocations[allocation.name] = None

    def set_buffer(self, buffer: Buffer) -> None:
        """Add a buffer, or replace the one of that name."""
        if self._buffers.get(buffer.name) != buffer:
            self._buffers[buffer.name] = buffer
            self.delta.buffers[buffer.name] = None

    def remove_buffer(self, name: str) -> None:
        """Remove a buffer, and its allocation if no other buffer views it."""
        buffer = self._buffers.pop(name, None)
        if buffer is None:
            raise InternalError(f"edit: no buffer '{name}'", hint=did_you_mean(name, self._buffers, sigil="%"))
        self.delta.buffers[name] = None
        shared = any(other.allocation == buffer.allocation for other in self._buffers.values())
        if not shared and self._allocations.pop(buffer.allocation, None) is not None:
            self.delta.allocations[buffer.allocation] = None

    def remove_allocation(self, name: str) -> None:
        """Remove an allocation; the buffers that view it must have gone or moved before."""
        if self._allocations.pop(name, None) is None:
            raise InternalError(f"edit: no allocation '{name}'", hint=did_you_mean(name, self._allocations, sigil="$"))
        self.delta.allocations[name] = None

    def set_kernel(self, kernel: Kernel) -> None:
        """Add a kernel, or replace the one of that name for all nodes that launch it.

        Raises:
            InvalidInput: If it contradicts what the replaced kernel, or the kernels that the edit began with, declare
                of the same code (:func:`~forerun.ir.declaration.contradiction`).
        """
        present = self._kernels.get(kernel.name)
        if present != kernel:
            base = [other for other in self.base.kernels.values() if runs_code_of(kernel, other)]
            self._put_kernel(kernel, base if present is None else [present])

    def _put_kernel(self, kernel: Kernel, declared: Iterable[Kernel]) -> None:
        """Set a kernel that agrees with one of some others, if there are any."""
        clashes = [(contradiction(kernel, other), other) for other in declared]
        if clashes and all(words for words, _ in clashes):
            raise _contradicted(kernel, clashes[0][1], clashes[0][0])
        self._kernels[kernel.name] = kernel
        self.delta.kernels[kernel.name] = None

    def kernel_variant(self, kernel: Kernel, roles: tuple[Role, ...], suffix: str) -> Kernel:
        """The kernel with another body: the one that an earlier call made, or a new one named after both.

        The suffix says what was done, such as ``pdl``; the name is ``kernel.suffix``, with a number if that is taken.

        Raises:
            InvalidInput: If the body contradicts what the kernel declares of its code.
        """
        stem = kernel.name if kernel.name.endswith(f".{suffix}") else f"{kernel.name}.{suffix}"
        name, number = stem, 2
        while (present := self._kernels.get(name)) is not None:
            same = present.parameters == kernel.parameters and present.implementations == kernel.implementations
            same = same and present.launches == kernel.launches
            if same and present.roles == roles:
                return present
            name, number = f"{stem}{number}", number + 1
        variant = kernel.with_roles(name, roles)
        self._put_kernel(variant, [kernel])
        return variant

    def drop_unused_kernels(self) -> None:
        """Remove the kernels that no node launches, bodies of child graphs and conditionals included."""
        used = _kernels_used(self._read())
        for name in [name for name in self._kernels if name not in used]:
            del self._kernels[name]
            self.delta.kernels[name] = None

    def commit(self) -> Graph:
        """The edited graph, or the very graph that the edit began from if nothing changed.

        The edit may go on from there; the next commit's delta is relative to this one's graph.
        """
        if self.delta.is_empty:
            return self.base
        # Graphs do not change, so the next one may share what no edit has changed.
        topology = self._read() if self._order is None else _reordered(self._topology, self._order)
        base, delta = self.base, self.delta
        tables: tuple[Mapping[str, Any], ...] = (
            self._allocations if delta.allocations else base.allocations,
            self._buffers if delta.buffers else base.buffers,
            self._kernels if delta.kernels else base.kernels,
        )
        self.delta.base = weakref.ref(self.base)
        result = Graph._from_parts(self._name, tables, topology, self.delta)
        carry_over(self.base, self.delta, result)
        self.base, self.delta = result, Delta()
        self._own_topology = self._order = None
        return result


_STRENGTH = {DependencyKind.LAUNCH_ORDER: 0, DependencyKind.PROGRAMMATIC: 1, DependencyKind.FULL: 2}


def _contradicted(kernel: Kernel, declared: Kernel, words: str) -> InvalidInput:
    what = "another definition of" if kernel.name == declared.name else f"kernel '{kernel.name}', made from"
    message = f"edit: {what} kernel '{declared.name}' contradicts its declaration: {words}"
    hint = "what runs other code, or accesses other bytes, needs an implementation and phase functions of its own"
    at = Location("kernel", declared.name)
    return InvalidInput(message, (Diagnostic("E1", words, at, f"this is what '{declared.name}' declares"),), hint)


def _reordered(topology: nx.DiGraph[str], order: list[str]) -> nx.DiGraph[str]:
    result = type(topology)()
    result.add_nodes_from((name, topology.nodes[name]) for name in order)
    result.add_nodes_from((name, data) for name, data in topology.nodes.items() if name not in result)
    result.add_edges_from(topology.edges(data=True))
    return result


def _kernels_used(topology: nx.DiGraph[str]) -> set[str]:
    from forerun.ir.walk import bodies_in, kernel_nodes  # which needs graphs, and graphs need edits

    used = set()
    for _, node in topology.nodes(data="node"):
        if isinstance(node, KernelNode):
            used.add(node.kernel)
        for body in bodies_in(node):
            used.update(inner.kernel for _, inner in kernel_nodes(body))
    return used
