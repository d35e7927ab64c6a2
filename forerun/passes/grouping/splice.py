"""Puts a preparing node and one launch in the place of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forerun.ir.buffer import Allocation
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.grouping import Preparation
from forerun.ir.nodes import KernelNode
from forerun.passes.fusion.splice import reconnect
from forerun.passes.grouping.candidates import Candidate, is_undisturbed

__all__ = ["Splicer"]


@dataclass
class _Prepared:
    """A preparing node that is in the graph: for whom, where, and what its buffers are called there."""

    preparation: Preparation
    node: str
    names: Mapping[str, str]
    place: int
    users: list[str] = field(default_factory=list)


class Splicer:
    """The edit of a graph, group by group in launch order."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._edit = graph.edit()
        self._order = [*graph.nodes]
        self._place = {name: position for position, name in enumerate(graph.nodes)}
        self._prepared: list[_Prepared] = []

    @property
    def preparations(self) -> int:
        """How many preparing nodes there are."""
        return len(self._prepared)

    def commit(self) -> Graph:
        """The graph after."""
        if self._prepared:
            self._edit.drop_unused_kernels()
        return self._edit.commit()

    def replace(self, candidate: Candidate) -> str:
        """Replace a group; returns the name of the new node."""
        edit, last, launched = self._edit, candidate.last, candidate.replacement.launched
        prepared = self._preparation(candidate)
        node = launched.node(self._name(f"{last.name}.persistent"), last, prepared.names)
        edit.set_kernel(launched.kernel)
        edit.add_node(node, before=last.name)
        self._place[node.name] = self._place[last.name]
        reconnect(edit, node.name, list(candidate.names), self._place)
        for name in candidate.names:
            edit.remove_node(name)
        edit.record_fusion(node.name, candidate.names)
        self._order_after(prepared, node)
        return node.name

    def _name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._edit or name in self._graph.nodes:
            name, number = f"{wanted}{number}", number + 1
        return name

    def _preparation(self, candidate: Candidate) -> _Prepared:
        """The preparing node for a group: one that is there, if what it reads is as it was, or a new one."""
        wanted = candidate.replacement.preparation
        for known in self._prepared:
            between = self._order[known.place : self._place[candidate.last.name]]
            if known.preparation == wanted and self.serves(wanted, between):
                return known
        made = self._declared(wanted, candidate)
        self._prepared.append(made)
        return made

    def serves(self, preparation: Preparation, between: Sequence[str]) -> bool:
        """Whether what was prepared is right still, after the nodes in between."""
        return is_undisturbed(self._graph, preparation.launched, between)

    def _declared(self, preparation: Preparation, candidate: Candidate) -> _Prepared:
        edit, last = self._edit, candidate.last
        prefix, number = "schedule", 2
        while not self._is_free(prefix, preparation):
            prefix, number = f"schedule{number}", number + 1
        names = {buffer.name: f"{prefix}.{buffer.name}" for buffer in preparation.buffers}
        for buffer in preparation.buffers:
            name = names[buffer.name]
            edit.set_allocation(Allocation(name, buffer.size, last.place))
            edit.set_buffer(replace(buffer, name=name, allocation=name))
        edit.set_kernel(preparation.launched.kernel)
        node = preparation.launched.node(prefix, last, names)
        edit.add_node(node, before=last.name)
        self._place[prefix] = self._place[last.name]
        return _Prepared(preparation, prefix, names, self._place[last.name])

    def _is_free(self, prefix: str, preparation: Preparation) -> bool:
        names = [f"{prefix}.{buffer.name}" for buffer in preparation.buffers]
        taken = {*self._edit.buffers, *self._graph.allocations}
        return prefix not in self._edit and prefix not in self._graph.nodes and not taken & set(names)

    def _order_after(self, prepared: _Prepared, node: KernelNode) -> None:
        """What comes before the first user comes before the preparing node; then users, one after the other."""
        edit = self._edit
        if not prepared.users:
            for dependency in edit.incoming(node.name):
                edit.add_dependency(Dependency(dependency.source, prepared.node))
        used = {argument.buffer for _, argument in node.arguments if hasattr(argument, "buffer")}
        written = {access.parameter for phase in prepared.preparation.launched.kernel.phases for access in phase.writes}
        handed = [prepared.names[name] for name in prepared.names if name in written and prepared.names[name] in used]
        edit.add_dependency(Dependency(prepared.node, node.name, hazards=tuple(Hazard("RAW", n) for n in handed)))
        if prepared.users:
            shared = [name for name in prepared.names.values() if name in used and name not in handed]
            hazards = tuple(Hazard("WAW", name) for name in shared)
            edit.add_dependency(Dependency(prepared.users[-1], node.name, hazards=hazards))
        prepared.users.append(node.name)
