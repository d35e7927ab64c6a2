"""The proof that a plan's graph is right, made again for what an update could break.

What a graph means was proved once: valid, free of races, drained. The order of events depends on edges and kernels
alone. So as long as these stay, three things can go wrong at a node whose arguments change: an invariant of that node,
what it accesses, and what flows through temporaries and outputs. A scalar that no region names changes no access.

For everything else there is a way that is certain: verify and check the graph as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, ScalarParameter
from forerun.ir.nodes import AllocNode, FreeNode, KernelNode, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.semantics.access import NodeAccess, accesses, written_scalars
from forerun.ir.semantics.binding import Binder
from forerun.ir.semantics.order import EventOrder, event_order
from forerun.ir.semantics.races import is_ordered
from forerun.ir.types import BufferRole
from forerun.ir.verify import require_valid
from forerun.ir.verify.nodes import check_node, holds
from forerun.ir.walk import all_nodes, kernel_nodes
from forerun.runtime.plans.difference import Difference, NodeChange
from forerun.runtime.plans.updatable import HOW
from forerun.support.diagnostics import Refuted, Unsupported

__all__ = ["Proof", "require_proved"]


def require_proved(graph: Graph) -> None:
    """Check a graph as a whole.

    Raises:
        InvalidInput: If it is not valid.
        Refuted: If it has a race, or a node may outlive it.
        Unsupported: If facts are missing to decide.
    """
    require_valid(graph)
    verdict = check(graph)
    if verdict.proved:
        return
    kind = Refuted if verdict.status == "refuted" else Unsupported
    hint = "forerun.compile() with infer-dependencies orders it; its executable's graph can be a plan"
    raise kind(f"graph '{graph.name}' is {verdict.status}, so it cannot be a plan", verdict.findings[:8], hint)


_Found = dict[int, list[NodeAccess]]
"""Accesses by launch position."""

_NOT_OF_CODE = ("argument '", "grid", "block", "shared memory", "cluster", "cooperative launch")
"""What begins the names of aspects that leave the order of events as it is."""


class Proof:
    """What is known of a graph that was proved, so that the next one need not be proved from nothing.

    Raises:
        InvalidInput: If the graph is not valid.
        Refuted: If it has a race, or a node may outlive it.
        Unsupported: If facts are missing to decide.
    """

    __slots__ = ("_facts", "_tables", "graph")

    def __init__(self, graph: Graph) -> None:
        require_proved(graph)
        self.graph = graph
        self._facts = _Facts(graph, event_order(graph))
        self._tables: dict[str, _Found] | None = None

    @property
    def positions(self) -> Mapping[str, int]:
        """The launch positions of the graph's nodes."""
        return self._facts.order.position

    def extend(self, after: Graph, difference: Difference) -> tuple[Proof, str]:
        """The proof of a graph that differs from this one, and which of :data:`HOW` it took.

        Nothing of this proof changes if it fails.

        Raises:
            InvalidInput: If it is not valid.
            Refuted: If it has a race, or a node may outlive it.
            Unsupported: If facts are missing to decide.
        """
        if difference.structure or difference.memory or difference.renamed:
            return Proof(after), HOW[3]
        if not difference.nodes:
            return self._moved_to(after), HOW[0]
        if self._facts.has_foreign_code:
            for change in difference.nodes:
                _require_known_accesses(after, change)
        inner = [change for change in difference.nodes if "/" in change.path]
        if inner and list(_node_at(self.graph)) != list(_node_at(after)):
            return Proof(after), HOW[3]  # nodes in bodies were renamed, so a path may be another node's
        for change in difference.nodes:
            if not self._is_harmless(after, change):
                break
        else:
            return self._moved_to(after), HOW[1]
        found = self._new_accesses(after, difference.nodes)
        if found is not None and self._all_ordered(found):
            moved = self._moved_to(after)
            moved._take_over(found)
            return moved, HOW[2]
        return Proof(after), HOW[3]

    def _moved_to(self, graph: Graph) -> Proof:
        """A proof of another graph by the same facts."""
        moved = object.__new__(Proof)
        moved.graph, moved._facts, moved._tables = graph, self._facts, self._tables
        return moved

    def _pair(self, after: Graph, change: NodeChange) -> tuple[KernelNode, KernelNode] | None:
        """A kernel node before and after, if it launches the same code."""
        if change.is_inner:
            old, new = _node_at(self.graph)[change.path], _node_at(after)[change.path]
        else:
            old, new = self.graph.node(change.path), after.node(change.path)
        if not isinstance(old, KernelNode) or not isinstance(new, KernelNode) or old.kernel != new.kernel:
            return None
        if "kernel" in change.aspects or (old.place is not new.place and old.place != new.place):
            return None
        same = len(old.arguments) == len(new.arguments) and type(new.arguments) is tuple
        return (old, new) if same else None

    def _is_harmless(self, after: Graph, change: NodeChange) -> bool:
        """Whether nothing changed but numbers that no region depends on."""
        if not change.numbers:
            return False
        node: Any = _node_at(after)[change.path] if "/" in change.path else after.node(change.path)
        free = self._facts.free_scalars(after.kernels[node.kernel])
        for i in change.numbers:
            name, argument = node.arguments[i]
            parameter = free.get(name)
            if parameter is None or not holds(parameter.dtype, argument.value):
                return False
        return True

    def _new_accesses(self, after: Graph, changes: Sequence[NodeChange]) -> _Found | None:
        """What the changed nodes access now, by position; ``None`` if the whole graph must be checked."""
        tables, facts = self._by_allocation(), self._facts
        found: _Found = {}
        for change in changes:
            if change.is_inner:
                return None
            pair = self._pair(after, change)
            if pair is None or not all(aspect.startswith(_NOT_OF_CODE) for aspect in change.aspects):
                return None
            if _loads(pair[0]) != _loads(pair[1]) or next(check_node(after, pair[1]), None) is not None:
                return None
            made = facts.binder.accesses(pair[1])
            old = {a for known in tables.values() for a in known.get(change.position, ())}
            differing = old ^ set(made)
            if any(facts.concerns_others(access) for access in differing):
                return None
            found[change.position] = made
        return found

    def _by_allocation(self) -> dict[str, _Found]:
        """The accesses to each allocation by launch position; worked out when they are needed for the first time.

        Until then nothing has changed but scalars that no access depends on.
        """
        if self._tables is None:
            self._tables = {}
            for position, found in enumerate(accesses(self._facts.graph).values()):
                for access in found:
                    self._tables.setdefault(access.allocation, {}).setdefault(position, []).append(access)
        return self._tables

    def _all_ordered(self, found: _Found) -> bool:
        """Whether the new accesses are ordered with every access that they conflict with."""
        tables = self._by_allocation()
        for position, made in found.items():
            for access in made:
                others = {**tables.get(access.allocation, {}), **found}
                for other, known in others.items():
                    if other != position and not all(self._is_fine(position, access, other, b) for b in known):
                        return False
        return True

    def _is_fine(self, position: int, access: NodeAccess, other: int, known: NodeAccess) -> bool:
        if not access.conflicts(known):
            return True
        earlier, later = (access, known) if position < other else (known, access)
        return is_ordered(self._facts.order, earlier, later)

    def _take_over(self, found: _Found) -> None:
        """Put the new accesses in the place of the old ones, in tables of its own."""
        tables = {name: dict(known) for name, known in self._by_allocation().items()}
        for position, made in found.items():
            for known in tables.values():
                known.pop(position, None)
            for access in made:
                tables.setdefault(access.allocation, {}).setdefault(position, []).append(access)
        self._tables = tables


class _Facts:
    """What a graph has in common with those that differ from it in arguments and launches alone."""

    def __init__(self, graph: Graph, order: EventOrder) -> None:
        self.order = order
        self.graph = graph
        self.has_foreign_code = any(kernel.has_foreign_code for kernel in graph.kernels.values())
        self._binder: Binder | None = None
        self._free: dict[str, tuple[Kernel, dict[str, ScalarParameter]]] = {}
        self._flowing: frozenset[str] | None = None
        self._constant: frozenset[str] = frozenset()
        self._loaded: frozenset[str] = frozenset()

    @property
    def binder(self) -> Binder:
        """What binds nodes to buffers. Who writes what scalars are loaded from is the same for all these graphs."""
        if self._binder is None:
            self._binder = Binder(self.graph, written_scalars(self.graph))
        return self._binder

    def free_scalars(self, kernel: Kernel) -> dict[str, ScalarParameter]:
        """The scalar parameters that no region of a kernel depends on."""
        known = self._free.get(kernel.name)
        if known is None or known[0] is not kernel:
            touched = [access for phase in kernel.phases for access in (*phase.reads, *phase.writes)]
            used = {symbol for access in touched for symbol in access.region.symbols}
            known = kernel, {p.name: p for p in kernel.scalar_parameters if p.name not in used}
            self._free[kernel.name] = known
        return known[1]

    def concerns_others(self, access: NodeAccess) -> bool:
        """Whether an access that is new, or gone, can break what is not about races.

        What flows through temporaries and outputs (F2 to F4), writes to weights (F1), and writes to what scalars are
        loaded from, since they decide which bytes other nodes access.
        """
        if self._flowing is None:
            self._work_out()
        flows = self._flowing is None or access.allocation in self._flowing
        return flows or (access.write and access.allocation in self._constant | self._loaded)

    def _work_out(self) -> None:
        graph = self.graph
        buffers = graph.buffers.values()
        flowing = (BufferRole.TEMP, BufferRole.OUTPUT)
        frees = any(isinstance(node, AllocNode | FreeNode) for node in graph)
        self._flowing = frozenset(graph.allocations if frees else (b.allocation for b in buffers if b.role in flowing))
        self._constant = frozenset(b.allocation for b in buffers if b.role is BufferRole.WEIGHT)
        loads = (load for _, node in kernel_nodes(graph) for load in _loads(node))
        self._loaded = frozenset(graph.buffers[load.buffer].allocation for load in loads)


_node_at = Analysis({"nodes"}, lambda graph: dict(all_nodes(graph)))
"""All nodes, those of bodies too, by path."""


def _loads(node: KernelNode) -> list[ScalarLoad]:
    return [argument for _, argument in node.arguments if isinstance(argument, ScalarLoad)]


def _require_known_accesses(after: Graph, change: NodeChange) -> None:
    """Code of others declares the bytes that it was seen to access, which other numbers may make others.

    Raises:
        Unsupported: If the declaration cannot be trusted for the new arguments.
    """
    if "kernel" in change.aspects:
        return
    node = _node_at(after)[change.path] if change.is_inner else after.node(change.path)
    kernel = after.kernels.get(node.kernel) if isinstance(node, KernelNode) else None
    if kernel is None or not kernel.has_foreign_code:
        return
    scalars = {f"argument '{p.name}'" for p in kernel.scalar_parameters}
    changed = [aspect for aspect in change.aspects if aspect in scalars]
    fixed = [a for p in kernel.phases for a in (*p.reads, *p.writes) if not a.region.is_whole and not a.region.symbols]
    if changed and fixed:
        message = f"{change}, whose kernel '{kernel.name}' declares fixed parts of buffers, of code that is given"
        hint = "the parts may be others for this value: declare them by the scalar, or capture the program again"
        raise Unsupported(message, hint=hint)
