"""What distinguishes two graphs, as plans see it: which nodes, whether the edges, whether the memory."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Difference", "NodeChange"]


class NodeChange(NamedTuple):
    """A node that differs from the one at its place.

    Attributes:
        path: Its name in the graph after; ``outer/inner`` for a node in a body.
        position: Its launch position in the graph itself; for a node in a body, that of the node around it.
        aspects: What differs: ``kernel``, ``argument 'offset'``, ``grid``, ``cluster``, ``source`` and so on.
        numbers: Which of its arguments are other constants, counted from 0, if nothing else differs of a launch of the
            same kernel; else empty.
    """

    path: str
    position: int
    aspects: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    @property
    def is_inner(self) -> bool:
        """Whether it is in a body."""
        return "/" in self.path

    def __str__(self) -> str:
        return f"{', '.join(self.aspects)} changed at {self.path}"


class Difference(NamedTuple):
    """How a graph differs from another one.

    Attributes:
        nodes: The nodes that changed, in launch order, if the two have the same nodes and edges otherwise.
        structure: Why nodes or edges do not correspond, such as ``edge kind changed at n17``; empty if they do.
        memory: Why the buffers are not the same; empty if they are.
        renamed: Whether nodes have other names, which changes nothing of what a graph does.
    """

    nodes: tuple[NodeChange, ...] = ()
    structure: str = ""
    memory: str = ""
    renamed: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the two do the same in the same memory."""
        return not self.nodes and not self.structure and not self.memory

    @property
    def reason(self) -> str:
        """The first thing that differs, for people; empty if nothing does."""
        if self.memory or self.structure:
            return self.memory or self.structure
        if not self.nodes:
            return ""
        count = len(self.nodes) - 1
        more = f", and {count} {'node' if count == 1 else 'nodes'} more" if count else ""
        return f"{self.nodes[0]}{more}"
