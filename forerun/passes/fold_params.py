"""``fold-params``: launch parameters that are the same in every replay are not copied in every replay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation, Buffer
from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph
from forerun.ir.refinement.folded import (
    Fold,
    FoldedUse,
    constant_for,
    folds,
    loaded_constant,
    rebind,
    replace_buffer,
)
from forerun.ir.semantics.access import accesses
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.types import Place
from forerun.ir.walk import bodies_in
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register
from forerun.support.diagnostics import Location

__all__ = ["FoldParams"]

_NAME = "params"


@register
@dataclass(frozen=True)
class FoldParams(Pass):
    """Removes copies of constants, such as the launch parameters that engines upload before each kernel.

    What is copied must be constant: a buffer with contents, which nobody writes (``GraphBuilder.constant``). A copy
    goes if it is known who reads what it brings, and these are kernels that read nothing else there. A scalar that such
    a kernel loads becomes a scalar of its launch. All other constants lie side by side in one allocation for each
    device, equal ones once, which is uploaded when the graph is loaded. Copies from memory of the host that may change
    between replays stay, and a remark says who may change it. It keeps every bit.

    Before passes that change dependencies, since what comes before a copy comes before what follows it afterwards.
    """

    name: ClassVar[str] = "fold-params"
    changes: ClassVar[frozenset[str]] = frozenset({"dependencies", "memory", "nodes"})
    statistics: ClassVar[Mapping[str, str]] = {
        "copies_folded": "copies that are gone",
        "copies_kept": "copies to a device, from the host or of constants, that had to stay",
        "scalars": "scalars of launches that were loaded before",
        "arena_bytes": "bytes of constants that are uploaded when the graph is loaded",
    }

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph without copies of constants, in bodies, too."""
        arenas = _Arenas(graph)
        for level in _levels(graph):
            for fold in folds(level).values():
                arenas.add(level, fold)
        with_arenas = arenas.declared(graph)
        after = rewrite_all(with_arenas, context, lambda level, inner: _folded(level, inner, arenas))
        if not context.statistics["copies_folded"]:
            return graph
        context.observe("arena_bytes", sum(arenas.sizes.values()))
        if after is not with_arenas and after.delta is not None and with_arenas.delta is not None:
            after.delta.include(with_arenas.delta)
        return after


def _levels(graph: Graph) -> Iterator[Graph]:
    """A graph, and all bodies in it as graphs of their own."""
    yield graph
    for node in graph:
        for number in range(len(bodies_in(node))):
            yield from _levels(inner_graph(graph, node.name, number))


def _folded(graph: Graph, context: PassContext, arenas: _Arenas) -> Graph:
    edit = graph.edit()
    for name, fold in folds(graph).items():
        if fold.refusal:
            context.observe("copies_kept")
            context.remark(f"stays in every replay: {fold.refusal}", Location("node", name))
        elif context.should_apply():
            context.count("copies_folded")
            context.observe("scalars", _apply(edit, graph, fold, arenas))
    return edit.commit()


def _apply(edit: GraphEdit, graph: Graph, fold: Fold, arenas: _Arenas) -> int:
    """Remove a copy; returns how many scalars are constants of launches now."""
    scalars = 0
    for use in fold.uses:
        constant = loaded_constant(graph, use)
        scalars += constant is not None
        rebind(edit, use, constant or replace_buffer(use.argument, arenas.buffer_of(graph, use).name))
    incoming, outgoing = edit.incoming(fold.copy.name), edit.outgoing(fold.copy.name)
    edit.remove_node(fold.copy.name)
    for source in incoming:
        for target in outgoing:
            edit.add_dependency(Dependency(source.source, target.target))
    return scalars


@dataclass
class _Arenas:
    """An allocation of constants for each place, and the buffers in it: one for equal contents of one form.

    Attributes:
        graph: The outermost graph, whose names are taken.
        names: The allocations.
        sizes: Their bytes.
        buffers: The constants, by what they hold and how it is read.
    """

    graph: Graph
    names: dict[Place, str] = field(default_factory=dict)
    sizes: dict[Place, int] = field(default_factory=dict)
    buffers: dict[tuple[Place, Buffer], Buffer] = field(default_factory=dict)

    def add(self, graph: Graph, fold: Fold) -> None:
        """Make room for what the readers of a copy need."""
        for use in fold.uses:
            if loaded_constant(graph, use) is None:
                self.buffer_of(graph, use)

    def buffer_of(self, graph: Graph, use: FoldedUse) -> Buffer:
        """The constant that stands for what a copy brought."""
        place = graph.allocations[use.view.allocation].place
        key = place, constant_for(use.view, use.contents, "", "", 0)
        if key not in self.buffers:
            name = self.names.setdefault(place, _free(_NAME, self.graph.allocations, [*self.names.values()]))
            offset = self.sizes.get(place, 0)
            self.sizes[place] = offset + -(-use.view.size // ALLOCATION_ALIGNMENT) * ALLOCATION_ALIGNMENT
            own = _free(f"{name}.{len(self.buffers)}", self.graph.buffers)
            self.buffers[key] = constant_for(use.view, use.contents, own, name, offset)
        return self.buffers[key]

    def declared(self, graph: Graph) -> Graph:
        """The graph with these allocations and buffers."""
        edit = graph.edit()
        for place, name in self.names.items():
            edit.set_allocation(Allocation(name, self.sizes[place], place))
        for buffer in self.buffers.values():
            edit.set_buffer(buffer)
        result = edit.commit()
        if result is not graph:  # no node names what is new
            accesses.keep(result, accesses(graph))
            folds.keep(result, folds(graph))
        return result


def _free(stem: str, *taken: Collection[str]) -> str:
    """A name that nobody has: the stem, with a number if need be."""
    name, number = stem, 2
    while any(name in names for names in taken):
        name, number = f"{stem}.{number}", number + 1
    return name
