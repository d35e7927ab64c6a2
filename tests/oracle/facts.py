"""What the IR says of kernels and host calls beyond bytes and order, as the oracle understands it."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Phase
from forerun.ir.nodes import BufferArgument, HostCallbackNode, KernelNode, Node
from tests.oracle.memory import spelled

__all__ = ["is_opaque", "phase_identity"]


def is_opaque(node: HostCallbackNode) -> bool:
    """Whether a host call may do anything that the device's work can see or be seen by."""
    return not node.pure


_known: dict[object, int] = {}


def phase_identity(graph: Graph, node: Node, phase: Phase) -> int:
    """What a phase computes: its function; without one, all that it declares.

    The launch makes a difference unless the kernel declares which ones it accepts, and so does an address that is no
    multiple of what the kernel needs.
    """
    assert isinstance(node, KernelNode)
    kernel = graph.kernels[node.kernel]
    odd = list[str]()
    for parameter in kernel.parameters:
        argument = node.argument(parameter.name)
        if not isinstance(parameter, BufferParameter) or not isinstance(argument, BufferArgument):
            continue
        if parameter.align and graph.buffers[argument.buffer].offset % parameter.align:
            odd.append(argument.buffer)
    launch = None if kernel.launches is not None else node.launch
    key = (phase.reference or phase, launch, tuple(odd))
    if key not in _known:
        _known[key] = spelled(repr(key))
    return _known[key]
