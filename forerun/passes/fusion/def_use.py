"""Who reads what whom has written: what patterns are matched and judged by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Argument, BufferArgument, KernelNode
from forerun.ir.semantics import NodeAccess, conflicts

__all__ = ["DefUse", "identity", "launched", "read_parameters", "written_parameters"]

Place = tuple[str, str]
"""A node, and a buffer that it accesses."""


@dataclass(frozen=True)
class DefUse:
    """The direct flows of data in a graph.

    Attributes:
        place: The position of each node in launch order.
        sources: The writes that a node's reads of a buffer see.
        readers: The nodes whose reads see what a node writes to a buffer.
    """

    place: dict[str, int]
    sources: dict[Place, set[NodeAccess]] = field(default_factory=dict)
    readers: dict[Place, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> DefUse:
        """The flows of a graph."""
        def_use = cls({name: i for i, name in enumerate(graph.nodes)})
        for clash in conflicts(graph).clashes:
            read = clash.later
            for alike, nodes in () if read.write else clash.earlier:
                for _, write in alike.of(nodes):
                    def_use.sources.setdefault((read.node, read.buffer), set()).add(write)
                    def_use.readers.setdefault((write.node, write.buffer), set()).add(read.node)
        return def_use

    def last_writer(self, node: str, buffer: str) -> str | None:
        """The last node whose write a read sees; ``None`` if there is none."""
        names = {write.node for write in self.sources.get((node, buffer), ())}
        return max(names, key=self.place.__getitem__, default=None)


def identity(graph: Graph, argument: Argument) -> object:
    """Equal for arguments that are the same bytes as the same type, or the same scalar."""
    if not isinstance(argument, BufferArgument):
        return type(argument), type(getattr(argument, "value", None)), argument
    buffer = graph.buffers[argument.buffer]
    return buffer.allocation, buffer.offset, buffer.size, buffer.dtype, buffer.index


def launched(graph: Graph, node: str, kernels: Iterable[Kernel]) -> KernelNode | None:
    """The node, if it launches one of some kernels."""
    found = graph.nodes[node]
    if not isinstance(found, KernelNode):
        return None
    kernel = graph.kernels[found.kernel]
    return found if any(kernel is known or kernel == known for known in kernels) else None


def read_parameters(kernel: Kernel) -> set[str]:
    """The buffer parameters that some phase reads."""
    return {access.parameter for phase in kernel.phases for access in phase.reads}


def written_parameters(kernel: Kernel) -> set[str]:
    """The buffer parameters that some phase writes."""
    return {access.parameter for phase in kernel.phases for access in phase.writes}
