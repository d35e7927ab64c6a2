"""Wrong passes that fold copies: each forgets to ask one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forerun.ir.buffer import Allocation
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, MemcpyNode, ScalarLoad
from forerun.ir.refinement.folded import constant_for, folds, loaded_constant, rebind
from forerun.ir.semantics.byteset import bytes_of
from forerun.ir.types import BufferRole
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


def _folded(graph: Graph, copy: MemcpyNode, contents: bytes) -> Graph:
    """The graph without a copy, in which all kernels that are bound to its destination read these bytes."""
    edit, view = graph.edit(), graph.buffers[copy.destination.buffer]
    edit.set_allocation(Allocation("wrong", view.size, graph.allocations[view.allocation].place))
    edit.set_buffer(constant_for(view, contents[: view.size].ljust(view.size, b"\0"), "wrong", "wrong", 0))
    for node in graph:
        if isinstance(node, KernelNode):
            bound = BufferArgument("wrong")
            arguments = tuple((p, bound if a == BufferArgument(view.name) else a) for p, a in node.arguments)
            edit.replace_node(replace(node, arguments=arguments))
    incoming, outgoing = edit.incoming(copy.name), edit.outgoing(copy.name)
    edit.remove_node(copy.name)
    for source in incoming:
        for target in outgoing:
            edit.add_dependency(Dependency(source.source, target.target))
    return edit.commit()


def _first(graph: Graph, is_meant: Callable[[MemcpyNode], bool]) -> MemcpyNode | None:
    """The first copy that is meant, and must stay in truth."""
    found = (n for n in graph if isinstance(n, MemcpyNode) and n.name in folds(graph) and folds(graph)[n.name].refusal)
    return next((n for n in found if graph.buffers[n.destination.buffer].size == 16 and is_meant(n)), None)


def _contents(graph: Graph, copy: MemcpyNode) -> bytes | None:
    return graph.buffers[copy.source.buffer].contents


@wrong_pass("proved", "memory of the host holds what it held when the graph was made: zeros")
def trusts_the_host(graph: Graph) -> Graph:
    copy = _first(graph, lambda copy: _contents(graph, copy) is None)
    return graph if copy is None else _folded(graph, copy, b"")


@wrong_pass("proved", "who reads a slot reads what this copy brings, whatever else was written there")
def forgets_other_writes(graph: Graph) -> Graph:
    def is_meant(copy: MemcpyNode) -> bool:
        return graph.buffers[copy.destination.buffer].role is BufferRole.TEMP and copy.source.buffer == "k0"

    copy = _first(graph, is_meant)
    return graph if copy is None else _folded(graph, copy, _contents(graph, copy) or b"")


@wrong_pass("proved", "nobody but the nodes of the graph reads what is copied")
def forgets_who_else_reads(graph: Graph) -> Graph:
    def is_meant(copy: MemcpyNode) -> bool:
        return graph.buffers[copy.destination.buffer].role is BufferRole.STATE and copy.source.buffer == "k0"

    copy = _first(graph, is_meant)
    return graph if copy is None else _folded(graph, copy, _contents(graph, copy) or b"")


@wrong_pass("proved", "a copy begins at the start of its source")
def forgets_regions(graph: Graph) -> Graph:
    for fold in folds(graph).values():
        source = graph.buffers[fold.copy.source.buffer]
        begin = bytes_of(source, fold.copy.source.region).start - source.offset
        bound = [use for use in fold.uses if isinstance(use.argument, BufferArgument)]
        if not fold.refusal and begin and len(bound) == len(fold.uses) == 1:
            return _folded(graph, fold.copy, source.contents or b"")
    return graph


@wrong_pass("proved", "a scalar that is loaded is what lies in memory, and nothing is added to it")
def forgets_what_is_added(graph: Graph) -> Graph:
    for fold in folds(graph).values():
        uses = [(use, loaded_constant(graph, use)) for use in fold.uses]
        if fold.refusal or not uses or not all(constant for _, constant in uses):
            continue
        edit = graph.edit()
        for use, constant in uses:
            assert constant is not None
            added = use.argument.offset if isinstance(use.argument, ScalarLoad) else 0
            rebind(edit, use, ConstantArgument(constant.value - added))
        edit.remove_node(fold.copy.name)
        return edit.commit()
    return graph
