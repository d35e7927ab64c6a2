"""Graph to text. Total: a value that has no textual form becomes a mark, ``!"..."``, which does not parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Never, TypeAlias, TypeVar

from forerun.ir import nodes
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Phase, Role
from forerun.ir.text.lines import (
    allocation_line,
    buffer_line,
    dependency_tail,
    is_private,
    kernel_line,
    node_line,
    role_line,
    step_line,
)
from forerun.ir.text.spelling import FORMAT_VERSION, MAX_NESTING, reference, unprintable, word

__all__ = ["Line", "graph_lines", "print_graph", "print_kernel", "print_node", "print_shortened"]

_T = TypeVar("_T")


Line: TypeAlias = tuple[str, str, str]
"""One line of the text form: its kind, the name of the element that it is about, and the text without its end.

The kind is one of :class:`~forerun.support.diagnostics.Location`, or ``step``, ``role``, ``body``, ``end``,
``format`` or ``blank``. The name of an element of a body comes after the names of the nodes around it: ``loop/copy``.
"""


def print_graph(graph: Graph) -> str:
    """The text form of any graph, in lines that end with a line feed.

    For graphs that can be represented, ``parse_graph`` is its inverse; broken ones are printed too.

    Example:
        >>> from forerun.ir.nodes import EmptyNode
        >>> print(print_graph(Graph("tiny", nodes=[EmptyNode("start")])), end="")
        forerun 1
        graph tiny
        <BLANKLINE>
        node #start = empty
    """
    return "\n".join([text for _, _, text in graph_lines(graph)]) + "\n"


def print_shortened(graph: Graph, most: int = 24) -> str:
    """Like :func:`print_graph`; sections of more lines than ``most`` end with how much is left out.

    Lines that are left out belong to whole elements, unless the first element alone is longer.
    """
    shown = [text for _, _, text in graph_lines(Graph(graph.name))]
    for title, section in _sections(graph, "", 0).items():
        lines = [text for _, _, text in section]
        if len(lines) > most:
            starts = [i for i, line in enumerate(lines) if line[0] not in " }"]
            stop = max((i for i in starts if 0 < i <= most), default=most)
            count = sum(i >= stop for i in starts)
            rest = f"{count:,} of {len(starts):,} {title} left out ({len(lines) - stop:,} lines)"
            lines = [*lines[:stop], f"// {rest}; graph.save(path) writes all"]
        shown += ["", *lines] if lines else []
    return "\n".join(shown) + "\n"


def print_node(node: nodes.Node) -> str:
    """The lines of one node, bodies included, without its dependencies; no line feed at the end."""
    return "\n".join([text for _, _, text in _node_and_bodies(node, "", 0)])


def print_kernel(kernel: Kernel) -> str:
    """The lines of one kernel; no line feed at the end."""
    return "\n".join([text for _, _, text in _kernel_lines(kernel)])


def graph_lines(graph: Graph) -> Iterator[Line]:
    """All lines of the text form, each with the element that it is about."""
    yield "format", "", f"forerun {FORMAT_VERSION}"
    yield "graph", "", f"graph {word(graph.name)}"
    for title, section in _sections(graph, "", 0).items():
        first = next(section, None)
        if first is not None:
            yield "blank", title, ""
            yield first
            yield from section


def _sections(graph: Graph, path: str, depth: int) -> dict[str, Iterator[Line]]:
    """What follows the name, in order."""
    return {
        "buffers": _memory_lines(graph),
        "kernels": chain.from_iterable(map(_kernel_lines, graph.kernels.values())),
        "nodes": _node_lines(graph, path, depth),
        "dangling dependencies": _dangling_lines(graph),
    }


def _body_lines(body: Graph, path: str, depth: int) -> Iterator[Line]:
    """The lines of a body, whose tables are empty unless it is broken."""
    indent = "  " * depth
    yield "graph", path, f"{indent}graph {word(body.name)}"
    for title, section in _sections(body, path, depth).items():
        if title == "nodes":
            yield from section
        else:
            yield from ((kind, path + name, indent + text) for kind, name, text in section)


def _memory_lines(graph: Graph) -> Iterator[Line]:
    """Allocations, then buffers.

    An allocation that is exactly the memory of the buffer of its name has no line: the buffer's line declares it.
    """
    private = {name: allocation for name, buffer in graph.buffers.items() if (allocation := _private(graph, buffer))}
    for name, allocation in graph.allocations.items():
        if name not in private:
            yield "allocation", _label(name), _total(allocation_line, allocation, "alloc $", name)
    for name, buffer in graph.buffers.items():
        text = _total(partial(buffer_line, private=private.get(name)), buffer, "buffer %", name)
        yield "buffer", _label(name), text


def _private(graph: Graph, buffer: Buffer) -> Allocation | None:
    try:
        allocation = graph.allocations.get(buffer.allocation)
        return allocation if allocation is not None and is_private(buffer, allocation) else None
    except Exception:
        return None


def _kernel_lines(kernel: Kernel) -> list[Line]:
    """A kernel: one line for a black box, else its body with a line for each step."""
    name = _label(kernel.name)
    try:
        if kernel.roles is None:
            return [("kernel", name, kernel_line(kernel))]
        lines = [("kernel", name, kernel_line(kernel) + " {")]
        for role in _tuple(kernel.roles):
            lines += _role_lines(role, name)
    except Exception:
        return [("kernel", name, _mark("kernel @", kernel.name, kernel))]
    return [*lines, ("end", name, "}")]


def _role_lines(role: Role, kernel: str) -> Iterator[Line]:
    name = f"{kernel}.{_label(role.name)}"
    yield "role", name, f"  {role_line(role)} {{"
    for step in _tuple(role.steps):
        if isinstance(step, Phase):
            yield "phase", f"{kernel}.{_label(step.name)}", f"    {step_line(step)}"
        else:
            yield "step", f"{name}.{type(step).__name__}", f"    {step_line(step)}"
    yield "end", name, "  }"


def _node_lines(graph: Graph, path: str, depth: int) -> Iterator[Line]:
    """The nodes in launch order, each followed by its bodies and the dependencies that it is the target of."""
    place = {name: position for position, name in enumerate(graph.nodes)}
    indent = "  " * depth
    for name, node in graph.nodes.items():
        yield from _node_and_bodies(node, path, depth)
        for dependency in _in_order(graph.incoming(name), place):
            text = _total(_after_line, dependency, "  after #", dependency.source)
            yield "dependency", f"{path}{_label(dependency.source)} -> {_label(name)}", indent + text


def _in_order(dependencies: list[Dependency], place: dict[str, int]) -> list[Dependency]:
    """By source in launch order; sources that are no nodes come last, by name."""
    if len(dependencies) < 2:
        return dependencies
    last = len(place)
    return sorted(dependencies, key=lambda d: (place.get(d.source, last), _label(d.source)))


def _after_line(dependency: Dependency) -> str:
    return f"  after {reference('#', dependency.source)} {dependency_tail(dependency)}"


def _dep_line(dependency: Dependency) -> str:
    source, target = reference("#", dependency.source), reference("#", dependency.target)
    return f"dep {source} -> {target} {dependency_tail(dependency)}"


def _dangling_lines(graph: Graph) -> Iterator[Line]:
    """The dependencies whose target is not a node: only in broken graphs."""
    topology = graph.topology
    if len(topology) == len(graph.nodes):
        return
    place = {name: position for position, name in enumerate(graph.nodes)}
    for target in sorted((name for name in topology if name not in graph.nodes), key=_label):
        for dependency in _in_order(graph.incoming(target), place):
            name = f"{_label(dependency.source)} -> {_label(target)}"
            yield "dependency", name, _total(_dep_line, dependency, "dep #", dependency.source)


def _node_and_bodies(node: nodes.Node, path: str, depth: int) -> Iterator[Line]:
    try:
        text, bodies = node_line(node), _bodies(node)
    except Exception:
        text, bodies = _mark("node #", node.name, node), []
    name, indent = path + _label(node.name), "  " * depth
    if bodies and depth >= MAX_NESTING:
        text, bodies = f"{text} {unprintable('bodies nested too deeply')}", []
    if not bodies:
        yield "node", name, indent + text
        return
    for number, (opening, body) in enumerate(bodies):
        start = f"}}{opening}" if number else f"{text}{opening}"
        yield "body" if number else "node", name, f"{indent}{start} {{"
        yield from _body_lines(body, f"{name}/", depth + 1)
    yield "end", name, indent + "}"


def _bodies(node: nodes.Node) -> list[tuple[str, Graph]]:
    """Each body with the word before its brace."""
    match node:
        case nodes.ChildGraphNode():
            return [("", _body(node.body))]
        case nodes.ConditionalNode():
            first, others = (" case", " case") if node.kind == "switch" else ("", " else")
            return [(others if number else first, _body(body)) for number, body in enumerate(_tuple(node.bodies))]
        case nodes.KernelNode() | nodes.MemcpyNode() | nodes.MemsetNode() | nodes.HostCallbackNode():
            return []
        case nodes.EmptyNode() | nodes.AllocNode() | nodes.FreeNode() | nodes.EventRecordNode() | nodes.EventWaitNode():
            return []
        case _:
            _forgotten: Never = node  # a kind of node fails the type check here; a graph may hold any object
            return []


# What these two raise is caught where the element's line is made, and the element is marked.


def _body(body: Graph) -> Graph:
    if not isinstance(body, Graph):
        raise TypeError("a body is a graph")
    return body


def _tuple(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if type(items) is not tuple:
        raise TypeError("not a tuple")
    return items


def _total(spell: Callable[[_T], str], element: _T, before: str, name: object) -> str:
    """The element's line, or a mark in its place if its fields have types that no line can hold."""
    try:
        return spell(element)
    except Exception:
        return _mark(before, name, element)


def _mark(before: str, name: object, element: object) -> str:
    return f"{before[:-1]}{reference(before[-1], name)} {unprintable(element)}"


def _label(name: object) -> str:
    return name if type(name) is str else unprintable(name)
