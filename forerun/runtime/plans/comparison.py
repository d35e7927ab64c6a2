"""Compares two graphs node by node, exactly, by what they do.

Names of nodes and kernels do not count: a kernel is its content, and a node is what stands at its launch position.
Names of buffers do count, since memory is asked for by them. What a certificate or a person wants to know (hazards of
dependencies, what a node fuses, the graph's name) does not count either.

A graph of thousands of nodes is compared between two replays, so the common cases run in C: lists of tuples are
compared as a whole, and values that are the same object are not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

from forerun.ir import nodes
from forerun.ir.analysis import Analysis
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.types import DependencyKind
from forerun.ir.walk import bodies_in, body_prefix
from forerun.runtime.plans.difference import Difference, NodeChange

if TYPE_CHECKING:
    from forerun.ir.nodes import Launch, Node

__all__ = [
    "argument_changes",
    "compare",
    "compare_node",
    "memory_difference",
    "same_code",
    "sketch",
]

_CONTENTS: Mapping[type, tuple[str, ...]] = {
    nodes.KernelNode: ("kernel", "arguments", "launch", "place"),
    nodes.MemcpyNode: ("source", "destination", "place"),
    nodes.MemsetNode: ("destination", "value", "place"),
    nodes.HostCallbackNode: ("function", "reads", "writes", "pure", "place"),
    nodes.EmptyNode: ("place",),
    nodes.AllocNode: ("allocation", "place"),
    nodes.FreeNode: ("allocation", "place"),
    nodes.EventRecordNode: ("event", "place"),
    nodes.EventWaitNode: ("event", "place"),
    nodes.ChildGraphNode: ("place",),
    nodes.ConditionalNode: ("kind", "condition", "place"),
}
"""What makes a node besides its name, its bodies and its dependencies."""

_KINDS: Mapping[type, str] = {
    nodes.KernelNode: "a kernel launch",
    nodes.MemcpyNode: "a copy",
    nodes.MemsetNode: "a fill",
    nodes.HostCallbackNode: "a host call",
    nodes.EmptyNode: "a join",
    nodes.AllocNode: "an allocation",
    nodes.FreeNode: "a free",
    nodes.EventRecordNode: "an event record",
    nodes.EventWaitNode: "an event wait",
    nodes.ChildGraphNode: "a child graph",
    nodes.ConditionalNode: "a conditional",
}

_getters: Mapping[type, Callable[[Any], Any]] = {kind: attrgetter(*names) for kind, names in _CONTENTS.items()}
_KERNEL_FIELDS = tuple(map(attrgetter, _CONTENTS[nodes.KernelNode]))
_EDGE_FIELDS = tuple(map(attrgetter, ("source", "target", "kind")))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is compared of a graph, in lists: built once for each graph.

    Attributes:
        nodes: All nodes.
        names: Their names.
        types: Their types.
        places: The launch positions of the kernel nodes; ``None`` if there are no other nodes.
        columns: Of the kernel nodes a list for each field that counts.
        others: The contents of the other nodes, with their positions.
    """

    nodes: list[Node]
    names: list[str]
    types: list[type]
    places: list[int] | None
    columns: list[list[Any]]
    others: list[tuple[int, Any]]


def _parts_of(graph: Graph) -> _Parts:
    found = list(graph.nodes.values())
    names, types = list(graph.nodes), list(map(type, found))
    launched, places, others = found, None, list[tuple[int, Any]]()
    if types.count(nodes.KernelNode) != len(types):
        places = [i for i, kind in enumerate(types) if kind is nodes.KernelNode]
        launched = [found[i] for i in places]
        others = [(i, _getters[types[i]](node)) for i, node in enumerate(found) if types[i] is not nodes.KernelNode]
    columns = [list(map(field, launched)) for field in _KERNEL_FIELDS]
    return _Parts(found, names, types, places, columns, others)


_parts = Analysis({"nodes"}, _parts_of)
_edge_columns = Analysis(
    {"nodes", "dependencies"}, lambda graph: [list(map(field, graph.dependencies)) for field in _EDGE_FIELDS]
)
"""A list for each field of dependencies that counts, by target and source."""


def sketch(graph: Graph) -> tuple[object, ...]:
    """A few properties of a graph that are found in no time; graphs without a difference have the same sketch.

    Graphs whose sketches differ need not be compared.
    """
    found = _as_list(graph)
    count = len(found)
    sample = found[:: max(1, count // 24)]
    parts = tuple((type(node), node.launch if isinstance(node, nodes.KernelNode) else None) for node in sample)
    sizes = tuple(buffer.shape for buffer in list(graph.buffers.values())[:24])
    return count, len(graph.buffers), sizes, parts


_as_list = Analysis({"nodes"}, lambda graph: list(graph.nodes.values()))


def compare(before: Graph, after: Graph) -> Difference:
    """How a graph differs from the one before."""
    if before is after:
        return Difference()
    counts = len(before), len(after)
    if counts[0] != counts[1]:
        return Difference(structure=f"{counts[1]} nodes, and {counts[0]} before")
    memory = memory_difference(before, after)
    if memory:
        return Difference(memory=memory)
    return _Comparison(before, after).bodies(before, after, "", None)


def memory_difference(before: Graph, after: Graph) -> str:
    """What differs in the buffers or allocations of two graphs; empty if nothing does."""
    for kind, sign in (("allocations", "$"), ("buffers", "%")):
        old, new = getattr(before, kind), getattr(after, kind)
        if old != new:
            return next(_table_differences(kind, sign, old, new))
    return ""


def _table_differences(
    kind: str, sign: str, old: Mapping[str, Buffer | Allocation], new: Mapping[str, Buffer | Allocation]
) -> Iterator[str]:
    what = kind.removesuffix("s")
    for name in old:
        if name not in new:
            yield f"{what} {sign}{name} was removed"
        elif old[name] != new[name]:
            changed = [key for key in old[name].__slots__ if getattr(old[name], key) != getattr(new[name], key)]
            yield f"{' and '.join(changed)} of {what} {sign}{name} changed"
    yield from (f"{what} {sign}{name} was added" for name in new if name not in old)


def same_code(old: Kernel, new: Kernel) -> bool:
    """Whether two kernels are the same but for their names."""
    if old is new:
        return True
    same = old.parameters == new.parameters and old.implementations == new.implementations
    return same and old.launches == new.launches and old.roles == new.roles


def compare_node(before: Graph, after: Graph, old: Node, new: Node, position: int) -> Difference:
    """How a node differs from the one of its name; the two graphs have the same tables."""
    return _Comparison(before, after).node(old, new, "", position)


def argument_changes(old: Node, new: Node, path: str, position: int) -> list[NodeChange] | None:
    """What changed at a launch; ``None`` if two nodes differ in more than the arguments of one kernel.

    The case that comes at every step of a loop: numbers, and no more.
    """
    if type(old) is not nodes.KernelNode or type(new) is not nodes.KernelNode or old.kernel != new.kernel:
        return None
    if (old.launch is not new.launch and old.launch != new.launch) or len(old.arguments) != len(new.arguments):
        return None
    if (old.place is not new.place and old.place != new.place) or type(new.arguments) is not tuple:
        return None
    aspects: list[str] = []
    numbers: list[int] = []
    for i, after in enumerate(new.arguments):
        before = old.arguments[i]
        if before is not after and before != after:
            name, value = after
            aspects.append(f"argument '{name}'")
            if type(value) is type(before[1]) is nodes.ConstantArgument and name == before[0]:
                numbers.append(i)
    if not aspects:
        return []
    return [NodeChange(path, position, tuple(aspects), tuple(numbers) if len(numbers) == len(aspects) else ())]


class _Comparison:
    """Two graphs whose tables the nodes name."""

    def __init__(self, before: Graph, after: Graph) -> None:
        self.old, self.new = before.kernels, after.kernels
        self._same: dict[tuple[str, str], bool] = {}

    def bodies(self, before: Graph, after: Graph, prefix: str, owner: int | None) -> Difference:
        """Two graphs, or two bodies of the nodes at position ``owner``."""
        old, new = _parts(before), _parts(after)
        renamed = old.names != new.names
        structure = self._structure(old, new, prefix) or _edges_differ(before, after, new.names, prefix, renamed)
        if structure:
            return Difference(structure=structure, renamed=renamed)
        changes: list[NodeChange] = []
        for position in self._suspects(old, new):
            found = self.node(old.nodes[position], new.nodes[position], prefix, position if owner is None else owner)
            if found.structure:
                return Difference(structure=found.structure, renamed=renamed)
            changes += found.nodes
        return Difference(tuple(changes), renamed=renamed)

    def _structure(self, old: _Parts, new: _Parts, prefix: str) -> str:
        """Why nodes do not correspond."""
        if len(old.nodes) != len(new.nodes):
            return f"{len(new.nodes)} nodes{f' in {prefix}' if prefix else ''}, and {len(old.nodes)} before"
        if old.types != new.types:
            i = next(i for i, pair in enumerate(zip(old.types, new.types, strict=True)) if pair[0] is not pair[1])
            return f"{prefix}{new.names[i]} is {_KINDS[new.types[i]]}, and was {_KINDS[old.types[i]]}"
        return ""

    def _suspects(self, old: _Parts, new: _Parts) -> list[int]:
        """The positions of nodes that may differ: contents that are not equal, other code, and bodies."""
        found: set[int] = set()
        for before, after in zip(old.columns, new.columns, strict=True):
            if before != after:
                pairs = enumerate(zip(before, after, strict=True))
                found.update(i for i, (a, b) in pairs if a is not b and a != b)
        replaced = {name for name in self.old if not self._is_same_code(name, name)}
        if replaced:
            found.update(i for i, name in enumerate(new.columns[0]) if name in replaced)
        if new.places is None:
            return sorted(found)
        pairs_of_others = zip(old.others, new.others, strict=True)
        flat = (i for (i, a), (_, b) in pairs_of_others if a != b or new.types[i] not in _FLAT)
        return sorted({*(new.places[i] for i in found), *flat})

    def _is_same_code(self, old: str, new: str) -> bool:
        if (old, new) not in self._same:
            a, b = self.old.get(old), self.new.get(new)
            self._same[old, new] = a is not None and b is not None and same_code(a, b)
        return self._same[old, new]

    def node(self, old: Node, new: Node, prefix: str, position: int) -> Difference:
        """Two nodes at the same place."""
        path = prefix + new.name
        if type(old) is not type(new):
            return Difference(structure=f"{path} is {_KINDS[type(new)]}, and was {_KINDS[type(old)]}")
        changes = self._own_change(old, new, path, position)
        old_bodies, new_bodies = bodies_in(old), bodies_in(new)
        if len(old_bodies) != len(new_bodies):
            return Difference(structure=f"{path} has {len(new_bodies)} bodies, and had {len(old_bodies)}")
        for number, (a, b) in enumerate(zip(old_bodies, new_bodies, strict=True)):
            inner = self.bodies(a, b, body_prefix(prefix, new.name, number), position)
            if inner.structure:
                return inner
            changes += inner.nodes
        return Difference(tuple(changes))

    def _own_change(self, old: Node, new: Node, path: str, position: int) -> list[NodeChange]:
        """How a node differs besides its bodies; empty if it does not."""
        if isinstance(old, nodes.KernelNode) and isinstance(new, nodes.KernelNode):
            found = argument_changes(old, new, path, position) if self._is_same_code(old.kernel, new.kernel) else None
            if found is not None:
                return found
            aspects = tuple(self._kernel_aspects(old, new))
        else:
            aspects = tuple(name for name in _CONTENTS[type(new)] if getattr(old, name) != getattr(new, name))
        return [NodeChange(path, position, aspects)] if aspects else []

    def _kernel_aspects(self, old: nodes.KernelNode, new: nodes.KernelNode) -> Iterator[str]:
        if not self._is_same_code(old.kernel, new.kernel):
            yield "kernel"
        if old.arguments is not new.arguments:
            given = dict(old.arguments)
            yield from (f"argument '{name}'" for name, value in new.arguments if given.get(name) != value)
            if len(old.arguments) != len(new.arguments):
                yield "number of arguments"
        if old.launch is not new.launch:
            yield from _launch_aspects(old.launch, new.launch)
        if old.place != new.place:
            yield "place"


_FLAT = frozenset(_CONTENTS) - {nodes.ChildGraphNode, nodes.ConditionalNode}


def _launch_aspects(old: Launch, new: Launch) -> Iterator[str]:
    names = {"grid": "grid", "block": "block", "shared_bytes": "shared memory", "cluster": "cluster"}
    yield from (text for key, text in names.items() if getattr(old, key) != getattr(new, key))
    if old.cooperative != new.cooperative:
        yield "cooperative launch"


def _edges_differ(before: Graph, after: Graph, names: list[str], prefix: str, renamed: bool) -> str:
    """Why edges do not correspond; empty if they do."""
    if not renamed:
        old, new = before.dependencies, after.dependencies
        if len(old) == len(new) and (all(map(is_, old, new)) or _edge_columns(before) == _edge_columns(after)):
            return ""
    return _edge_difference(_edges(before), _edges(after), [prefix + name for name in names])


def _edges(graph: Graph) -> dict[tuple[int, int], DependencyKind]:
    """The kind of each edge, by launch positions."""
    position = {name: i for i, name in enumerate(graph.nodes)}
    sources, targets, kinds = _edge_columns(graph)
    pairs = zip(map(position.__getitem__, sources), map(position.__getitem__, targets), strict=True)
    return dict(zip(pairs, kinds, strict=True))


def _edge_difference(
    old: Mapping[tuple[int, int], DependencyKind], new: Mapping[tuple[int, int], DependencyKind], names: list[str]
) -> str:
    """The first edge that differs, by its target; empty if none does."""
    found = [(v, u) for u, v in old.keys() ^ new.keys()]
    found += [(v, u) for (u, v), kind in old.items() if new.get((u, v), kind) is not kind]
    if not found:
        return ""
    target, source = min(found)
    pair = source, target
    if pair in old and pair in new:
        kinds = f"was {old[pair]}, is {new[pair]}"
        return f"edge kind changed at {names[target]}: {names[source]} -> {names[target]} {kinds}"
    return f"edge {names[source]} -> {names[target]} was {'added' if pair in new else 'removed'} at {names[target]}"
