"""Constants that have names: the launch parameters which whoever runs a graph may change between replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, ConstantArgument, KernelNode, Node
from forerun.ir.types import DType
from forerun.ir.walk import bodies_in, kernel_nodes, with_bodies

__all__ = ["NamedParameter", "NamedUse", "named_parameters", "named_uses", "node_with_values", "with_values"]


@dataclass(frozen=True, slots=True)
class NamedUse:
    """A constant that has a name: the path of the node, its kernel, the parameter, and the argument."""

    path: str
    kernel: str
    parameter: str
    argument: ConstantArgument


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """All constants of one name: their value and type, and the paths of the nodes that use them."""

    value: int | float
    dtype: DType
    nodes: tuple[str, ...]


def named_uses(graph: Graph) -> Iterator[NamedUse]:
    """The named constants of a graph and all bodies in it, in launch order."""
    for path, node in kernel_nodes(graph):
        for parameter, argument in node.arguments:
            if isinstance(argument, ConstantArgument) and argument.name:
                yield NamedUse(path, node.kernel, parameter, argument)


def named_parameters(graph: Graph) -> dict[str, NamedParameter]:
    """The named constants of a valid graph, by name."""
    found: dict[str, NamedParameter] = {}
    for use in named_uses(graph):
        parameter = graph.kernels[use.kernel].parameter(use.parameter)
        assert parameter is not None
        known = found.get(use.argument.name)
        nodes = (*(known.nodes if known is not None else ()), use.path)
        found[use.argument.name] = NamedParameter(use.argument.value, parameter.dtype, tuple(dict.fromkeys(nodes)))
    return found


def with_values(graph: Graph, values: Mapping[str, int | float]) -> Graph:
    """The graph with other values of some named constants, in bodies, too."""
    edit = graph.edit()
    for node in graph:
        edit.replace_node(node_with_values(node, values))
    return edit.commit()


def node_with_values(node: Node, values: Mapping[str, int | float]) -> Node:
    """The node with other values of some named constants, in its bodies, too."""
    if not isinstance(node, KernelNode):
        return with_bodies(node, (with_values(body, values) for body in bodies_in(node)))
    arguments = tuple((name, _with_value(argument, values)) for name, argument in node.arguments)
    return node if arguments == node.arguments else replace(node, arguments=arguments)


def _with_value(argument: Argument, values: Mapping[str, int | float]) -> Argument:
    if isinstance(argument, ConstantArgument) and argument.name in values:
        return replace(argument, value=values[argument.name])
    return argument
