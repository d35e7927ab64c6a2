"""Wrong passes that place nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, BufferArgument, KernelNode
from forerun.ir.types import HOST, DependencyKind
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


def _on_host(graph: Graph, chosen: Iterable[str], *, full: bool = True) -> Graph:
    """The graph with some kernels on the host."""
    edit = graph.edit()
    for name in chosen:
        node = graph.nodes[name]
        if isinstance(node, KernelNode):
            edit.replace_node(replace(node, place=HOST))
            for dependency in (*edit.incoming(name), *edit.outgoing(name)) if full else ():
                edit.set_dependency(replace(dependency, kind=DependencyKind.FULL))
    return edit.commit()


@wrong_pass("proved", "any kernel runs on a CPU")
def places_code_of_gpus(graph: Graph) -> Graph:
    return _on_host(graph, graph.nodes)


@wrong_pass("valid", "the kinds of dependencies have nothing to do with places")
def keeps_kinds_of_dependencies(graph: Graph) -> Graph:
    return _on_host(graph, list(graph.nodes)[:1], full=False)


@wrong_pass("proved", "what lies in one buffer of the host lies in another one that looks alike")
def mixes_buffers_up(graph: Graph) -> Graph:
    after = _on_host(graph, graph.nodes)
    edit = after.edit()
    for node in after:
        if isinstance(node, KernelNode):
            bound = ((parameter, _another(after, argument)) for parameter, argument in node.arguments)
            edit.replace_node(replace(node, arguments=tuple(bound)))
    return edit.commit()


def _another(graph: Graph, argument: Argument) -> Argument:
    """The first buffer of that type and shape, and of that role."""
    if not isinstance(argument, BufferArgument):
        return argument
    own = graph.buffers[argument.buffer]
    return BufferArgument(
        next(b.name for b in graph.buffers.values() if (b.dtype, b.shape, b.role) == (own.dtype, own.shape, own.role))
    )
