"""What the IR says of kernels and host calls beyond bytes and order, as the oracle understands it."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase
from forerun.ir.nodes import HostCallbackNode, KernelNode, Node
from tests.oracle.memory import spelled

__all__ = ["is_opaque", "phase_identity"]


def is_opaque(node: HostCallbackNode) -> bool:
    """Whether a host call may do anything that the device's work can see or be seen by."""
    return True


_known: dict[object, int] = {}


def phase_identity(graph: Graph, node: Node, phase: Phase) -> int:
    """What a phase computes: its function and launch; without a function, all that the phase declares."""
    assert isinstance(node, KernelNode)
    key = (phase.reference or phase, node.launch)
    if key not in _known:
        _known[key] = spelled(repr(key))
    return _known[key]
