"""What a node that makes a schedule of attention was made for, read from its arguments."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode
from forerun.kernels.persistent import attention_schedule
from forerun.schedules.attention import TILES, Attention
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.policies import POLICIES
from forerun.schedules.tasks import Costs

__all__ = ["SCHEDULE", "bound_buffer", "capacity_of", "cuts_of", "family_of", "makes_schedule", "policy_of"]

SCHEDULE = tuple(access.parameter for phase in attention_schedule.KERNEL.phases for access in phase.writes)
"""The parameters that are the schedule."""

_PARAMETERS = tuple(parameter.name for parameter in attention_schedule.KERNEL.parameters)


def makes_schedule(node: KernelNode) -> bool:
    """Whether a node makes a schedule: by its parameters, since variants of the kernel have other names."""
    return tuple(name for name, _ in node.arguments) == _PARAMETERS


def family_of(node: KernelNode) -> Attention:
    """The heads, pages and costs; heads have one element, since a schedule does not depend on that."""
    kv_heads = _number(node, "kv_heads")
    costs = {tile: Costs(_number(node, f"fixed_{tile}"), _number(node, f"block_{tile}")) for tile in TILES}
    sizes = _number(node, "page_size"), _number(node, "cache_pages")
    return Attention(_number(node, "group") * kv_heads, kv_heads, 1, *sizes, costs)


def capacity_of(graph: Graph, node: KernelNode) -> Capacity:
    """The largest batch that there is room for, in the graph that has the node."""
    requests, pages = (graph.buffers[bound_buffer(node, name)].count for name in ("kv_lengths", "pages"))
    numbers = (_number(node, name) for name in ("ctas", "most_items", "partials", "lines"))
    return Capacity(requests, _number(node, "rows"), pages, *numbers)


def cuts_of(node: KernelNode) -> CutRule:
    """How the node cuts tasks."""
    number = _number(node, "cuts")
    return Shares() if number == 0 else Invariant(number) if number > 0 else Whole()


def policy_of(node: KernelNode) -> str:
    """The name of the policy."""
    return [*POLICIES][_number(node, "policy")]


def bound_buffer(node: KernelNode, parameter: str) -> str:
    """The buffer that a parameter is bound to."""
    argument = node.argument(parameter)
    assert isinstance(argument, BufferArgument)
    return argument.buffer


def _number(node: KernelNode, name: str) -> int:
    argument = node.argument(name)
    assert isinstance(argument, ConstantArgument)
    return int(argument.value)
