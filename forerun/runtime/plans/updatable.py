"""What a program offers whose executable can be changed in place, and which way an update took."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from forerun.ir.graph import Graph
from forerun.runtime.base import Program
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.plans.difference import Difference

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["HOW", "StreamTarget", "UpdatableProgram", "Update", "Way"]


HOW = ("nothing to prove", "scalars", "incremental", "full")
"""How much had to be proved again, from least to most."""


class Way(StrEnum):
    """How an update was made, from the cheapest to the dearest."""

    REUSED = "reused"
    PARAMETERS = "parameters"
    WHOLE_GRAPH = "whole graph"
    INSTANTIATED = "instantiated"

    __hash__ = str.__hash__  # that of enumerations is a function of Python's, and counts are kept by way


class Update(NamedTuple):
    """What an update of a plan did.

    Attributes:
        way: Which way it took.
        difference: What was changed.
        remark: What kept it from a cheaper way besides; empty if nothing did.
        proof: How much had to be proved again: see :data:`HOW`.
    """

    way: Way
    difference: Difference = Difference()
    remark: str = ""
    proof: str = ""

    @property
    def changed(self) -> int:
        """How many nodes were changed in place."""
        return len(self.difference.nodes) if self.way in (Way.PARAMETERS, Way.WHOLE_GRAPH) else 0

    @property
    def reason(self) -> str:
        """Why it took no cheaper way, such as ``edge kind changed at n17``; empty if nothing changed."""
        return "; ".join(filter(None, (self.difference.reason, self.remark)))

    def __str__(self) -> str:
        reason = self.reason
        return f"{self.way}: {reason}" if reason else str(self.way)


@runtime_checkable
class UpdatableProgram(Program, Protocol):
    """A loaded graph that can become another one without being loaded again.

    Each target decides on its own what it can change, and what is the same to it.
    """

    @property
    def size_bytes(self) -> int:
        """Bytes that closing it gives back: of memory, and of the executable as far as it could be measured."""
        ...

    def watch(self) -> None:
        """Be ready for :meth:`is_in_flight`: called once, before the first replay."""
        ...

    def require_memory(self) -> None:
        """Check that the memory of the caller's that the program uses is still there, as far as that can be known.

        Raises:
            InvalidInput: If some of it was freed.
        """
        ...

    def is_in_flight(self) -> bool:
        """Whether a replay that was launched is not over, without waiting for it."""
        ...

    def wait_for(self, other: Program, stream: Any = None) -> None:
        """Let what is launched on a stream from now on wait for the last launch of another program of the target."""
        ...

    def update_in_place(self, graph: Graph, difference: Difference) -> tuple[Way, str]:
        """Become another graph of the same nodes and edges, in the same memory.

        Nothing is in flight. Either everything is changed, or nothing.

        Args:
            graph: A graph that was proved.
            difference: How it differs from the one that is loaded: in nodes and names alone.

        Returns:
            The way, and why it was not a cheaper one. ``Way.INSTANTIATED`` says that the graph must be loaded again,
            and that nothing was changed.

        Raises:
            InvalidInput: If a function of the graph cannot be found.
        """
        ...


@runtime_checkable
class StreamTarget(DeviceTarget, Protocol):
    """A target that can run a graph without making an executable of it."""

    def can_stream(self, graph: Graph) -> bool:
        """Whether :meth:`load_streamed` takes a graph."""
        ...

    def load_streamed(
        self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None
    ) -> DeviceProgram:
        """As :meth:`load`, for a graph that runs once: its nodes are launched one by one."""
        ...
