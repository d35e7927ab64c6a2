"""The way into bodies: what rewrites one graph rewrites the bodies of its child graphs and conditionals, too."""

from __future__ import annotations

from collections.abc import Callable

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Graph
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.walk import bodies_in, with_bodies
from forerun.passes.infra.base import PassContext
from forerun.support.diagnostics import InternalError

__all__ = ["rewrite_all"]

Rewrite = Callable[[Graph, PassContext], Graph]


def rewrite_all(graph: Graph, context: PassContext, rewrite: Rewrite) -> Graph:
    """Apply a rewrite to a verified graph and to all bodies in it, the innermost first.

    A body is handed over as a graph of its own, over the tables of the graph around it, in which temporaries that are
    seen outside the body are state (:func:`~forerun.ir.semantics.nested.inner_graph`). Kernels that the rewrite makes
    there are kernels of the whole graph; kernels that no node launches any more are dropped at the end. What it remarks
    about nodes there is located at ``outer/inner``. The rewrite, and so all of it, returns the very graph that it gets
    if there is nothing to do.

    Raises:
        InternalError: If it changes buffers or allocations for a body.
    """
    after = _rewritten(graph, context, rewrite)
    if after is graph or not _touched(after) & {"nodes", "kernels"}:
        return after
    edit = after.edit()
    edit.drop_unused_kernels()
    return _continued(after, edit.commit())


def _rewritten(graph: Graph, context: PassContext, rewrite: Rewrite) -> Graph:
    """A graph after the rewrite, with all kernels that it had."""
    edit = graph.edit()
    for node in graph:
        bodies = bodies_in(node)
        if bodies:
            with context.inside(node.name):
                made = [_body(edit, graph, node.name, number, context, rewrite) for number in range(len(bodies))]
            if any(new is not old for new, old in zip(made, bodies, strict=True)):
                edit.replace_node(with_bodies(node, made))
    inside = edit.commit()
    return _continued(inside, rewrite(inside, context)) if inside is not graph else rewrite(graph, context)


def _body(edit: GraphEdit, graph: Graph, owner: str, number: int, context: PassContext, rewrite: Rewrite) -> Graph:
    """A body after the rewrite; its new kernels go into the edit of the graph around it."""
    before = _with_kernels(inner_graph(graph, owner, number), edit)
    after = _rewritten(before, context, rewrite)
    if after is before:
        return bodies_in(graph.nodes[owner])[number]
    if after.buffers != before.buffers or after.allocations != before.allocations:
        raise InternalError(f"pass '{context.subject.name}' changed buffers or allocations for a body of '{owner}'")
    for kernel in after.kernels.values():
        edit.set_kernel(kernel)
    same = not _touched(after) & {"nodes", "dependencies"}
    return bodies_in(graph.nodes[owner])[number] if same else after.without_tables()


def _touched(graph: Graph) -> frozenset[str]:
    return graph.delta.parts if graph.delta is not None else frozenset({"nodes"})


def _with_kernels(body: Graph, edit: GraphEdit) -> Graph:
    """A body over the kernels as edited so far, so that all variants have names of their own."""
    inner = body.edit()
    for name, kernel in edit.kernels.items():
        if name not in body.kernels:
            inner.set_kernel(kernel)
    return inner.commit()


def _continued(first: Graph, second: Graph) -> Graph:
    """The second graph; its delta is that of both edits."""
    if second is not first and first.delta is not None and second.delta is not None:
        second.delta.include(first.delta)
    return second
