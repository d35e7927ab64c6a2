"""The alignment that kernels need of memory: of allocations, and of buffers that a rewrite moves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from forerun.ir.analysis import Analysis
from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import BufferArgument
from forerun.ir.walk import kernel_nodes

__all__ = ["WIDEST_ACCESS", "lowered", "needed_alignments"]

WIDEST_ACCESS = 16
"""Bytes that one access to global memory takes at most: a load of ``.v4.b32``, or the unit of a bulk copy (PTX ISA,
"ld" and "cp.async.bulk"). Code that does not say what it needs may need that."""


def needed_alignments(graph: Graph) -> dict[str, int]:
    """For each allocation that kernels use, in bodies too, what its address must be a multiple of, in bytes."""
    needed: dict[str, int] = {}
    for buffer, parameters in _uses(graph).items():
        view = graph.buffers.get(buffer)
        if view is not None:
            most = max(parameter.alignment for parameter in parameters)
            needed[view.allocation] = max(most, needed.get(view.allocation, 1))
    return needed


def lowered(before: Graph, after: Graph, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The moved buffers that are aligned to less than before, where that may matter, each with what is wrong.

    The verifier holds each node to the alignment that its kernel declares (N15). A kernel that declares none may rely
    on the one that its author gave the buffer, so that is kept, up to :data:`WIDEST_ACCESS`.
    """
    uses = _uses(after)
    for name in sorted(names):
        silent = next((p for p in uses.get(name, ()) if p.align is None), None)
        was, now = (math.gcd(graph.buffers[name].offset, ALLOCATION_ALIGNMENT) for graph in (before, after))
        if silent is not None and now < min(was, WIDEST_ACCESS):
            message = f"was aligned to {min(was, WIDEST_ACCESS)} bytes and is aligned to {now}"
            yield name, f"{message}, and parameter '{silent.name}' does not say what it needs"


def _find_uses(graph: Graph) -> Mapping[str, tuple[BufferParameter, ...]]:
    found: dict[str, dict[BufferParameter, None]] = {}
    for _, node in kernel_nodes(graph):
        kernel = graph.kernels.get(node.kernel, Kernel(""))
        for name, argument in node.arguments:
            parameter = kernel.parameter(name)
            if isinstance(argument, BufferArgument) and isinstance(parameter, BufferParameter):
                found.setdefault(argument.buffer, {})[parameter] = None
    return {name: tuple(parameters) for name, parameters in found.items()}


_uses = Analysis({"nodes", "kernels"}, _find_uses)
"""The parameters that buffers are bound to, in bodies too."""
