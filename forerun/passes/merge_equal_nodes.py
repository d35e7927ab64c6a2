"""``merge-equal-nodes``: what is computed from the same bytes by several nodes is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.refinement.merged import Merge, changed_input, read_from
from forerun.ir.semantics import accesses
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register
from forerun.support.diagnostics import Location

__all__ = ["MergeEqualNodes"]


@register
@dataclass(frozen=True)
class MergeEqualNodes(Pass):
    """Removes kernel nodes that compute again what another one has computed.

    Two nodes are equal if they launch the same kernel in the same way, with the same scalars, and read the same bytes,
    which no node writes in between. The second one goes if it writes the same bytes again, or temporaries that others
    only read afterwards; these then read what the first one wrote, if that stays until then. Only kernels whose code is
    in phases: nobody says of machine code and PTX that it computes from what it reads alone. It keeps every bit.

    Before passes that make dependencies programmatic, since a node goes only if its dependencies are full.
    """

    name: ClassVar[str] = "merge-equal-nodes"
    changes: ClassVar[frozenset[str]] = frozenset({"nodes", "dependencies"})
    statistics: ClassVar[Mapping[str, str]] = {
        "nodes_merged": "nodes that another one stands for now",
        "nodes_kept": "nodes that stay, although another one reads the same",
    }

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph without nodes that compute the same again, in bodies, too."""
        return rewrite_all(graph, context, _merged)


def _merged(graph: Graph, context: PassContext) -> Graph:
    begin = graph
    while True:
        found, refused = _merges(graph, context)
        if not found:
            break
        edit = graph.edit()
        for merge in found:
            _apply(edit, merge)
        after = edit.commit()
        if graph is not begin and after.delta is not None and graph.delta is not None:
            after.delta.include(graph.delta)
        # Again: what reads the same only now may be equal now.
        graph = after
        context.count("nodes_merged", len(found))
    for merge, reason in refused:
        context.observe("nodes_kept")
        message = f"reads what '{merge.kept}' reads, but is not merged: {reason}"
        context.remark(message, Location("node", merge.gone))
    return graph


def _merges(graph: Graph, context: PassContext) -> tuple[list[Merge], list[tuple[Merge, str]]]:
    """The merges that are right, in launch order; and those of nodes with the same inputs that are not, and why."""
    found: list[Merge] = []
    refused: list[tuple[Merge, str]] = []
    known: dict[Hashable, str] = {}
    for node in graph:
        if not isinstance(node, KernelNode):
            continue
        inputs = _inputs(graph, node)
        kept = known.get(inputs)
        if kept is not None:
            merge = Merge(graph, kept, node.name)
            reason = merge.refusal()
            if not reason and context.should_apply():
                found.append(merge)
                continue
            if reason and not changed_input(merge):
                refused.append((merge, reason))
        known[inputs] = node.name
    return found, refused


def _inputs(graph: Graph, node: KernelNode) -> Hashable:
    """Equal for nodes that may be equal: all but the buffers that are only written."""
    kernel = graph.kernels[node.kernel]
    read = {access.parameter for phase in kernel.phases for access in phase.reads}
    inputs = (pair for pair in node.arguments if pair[0] in read or not isinstance(pair[1], BufferArgument))
    return node.kernel, node.launch, node.place, tuple(inputs)


def _apply(edit: GraphEdit, merge: Merge) -> None:
    """Remove a node."""
    read_from(edit, merge)
    incoming, outgoing = edit.incoming(merge.gone), edit.outgoing(merge.gone)
    edit.remove_node(merge.gone)
    for source in incoming:
        for target in outgoing:
            edit.add_dependency(Dependency(source.source, target.target))
    for old in merge.moved.values():
        for reader in merge.readers:
            edit.add_dependency(Dependency(merge.kept, reader, hazards=(Hazard("RAW", old),)))
            for writer in _later_writers(merge, reader):
                edit.add_dependency(Dependency(reader, writer, hazards=(Hazard("WAR", old),)))
    kept, gone = edit.node(merge.kept), merge.graph.nodes[merge.gone]
    assert isinstance(kept, KernelNode)
    assert isinstance(gone, KernelNode)
    claims = dict.fromkeys((*(kept.fuses or (kept.name,)), gone.name, *gone.fuses))
    edit.replace_node(replace(kept, fuses=tuple(claims)))


def _later_writers(merge: Merge, reader: str) -> list[str]:
    """The nodes that write again, after a reader, what the node that stays has written."""
    kept = merge.of(merge.kept, write=True)
    later = merge.names[merge.place[reader] + 1 :]
    found = accesses(merge.graph)
    return [name for name in later if any(a.write and any(map(a.overlaps, kept)) for a in found[name])]
