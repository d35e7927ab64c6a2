"""A kernel's parameters at a node: what is bound to each, and what the names in its regions stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, Parameter
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, ScalarLoad

__all__ = ["BoundParameters", "bind_kernel", "named_extents"]


@dataclass(frozen=True, slots=True)
class BoundParameters:
    """The parameters of a kernel at one node, by name.

    Attributes:
        loads: The scalars that are loaded from memory.
        constants: The scalars that are constants of the node.
        dims: The extents of the dimensions that buffer parameters name.
    """

    kernel: Kernel
    buffers: Mapping[str, Buffer]
    loads: Mapping[str, ScalarLoad]
    constants: Mapping[str, int | float]
    dims: Mapping[str, int]

    @property
    def integers(self) -> dict[str, int]:
        """What the names in regions stand for, where that is known before the graph runs."""
        return {**self.dims, **{name: value for name, value in self.constants.items() if isinstance(value, int)}}


def bind_kernel(graph: Graph, node: KernelNode) -> BoundParameters:
    """The parameters of a node's kernel; for a node in a body, the graph is the one around it, which has the tables."""
    kernel = graph.kernels[node.kernel]
    buffers: dict[str, Buffer] = {}
    loads: dict[str, ScalarLoad] = {}
    constants: dict[str, int | float] = {}
    dims: dict[str, int] = {}
    for name, argument in node.arguments:
        match argument:
            case BufferArgument(buffer=buffer):
                buffers[name] = graph.buffers[buffer]
                dims.update(named_extents(kernel.parameter(name), buffers[name].shape))
            case ScalarLoad():
                loads[name] = argument
            case ConstantArgument(value=value):
                constants[name] = value
    return BoundParameters(kernel, buffers, loads, constants, dims)


def named_extents(parameter: Parameter | None, shape: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The dimensions that a buffer parameter names, each with its extent in a buffer of that shape."""
    dims = parameter.dims if isinstance(parameter, BufferParameter) else None
    return ((dim, extent) for dim, extent in zip(dims or (), shape, strict=False) if isinstance(dim, str))
