"""What the programs of one plan or cache have in common: weights, memory of the caller's, and state that goes on."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.base import Program, Target
from forerun.runtime.constants import ConstantStatistics, SharedConstants, SharingTarget
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.plans.updatable import StreamTarget
from forerun.runtime.values import check_weights
from forerun.support.diagnostics import Unsupported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Sources"]


class Sources:
    """Loads graphs one after the other so that they share what they can.

    On a GPU the first program with a weight or a state buffer gives its memory to the later ones: weights are uploaded
    once, and state stays where it is. What must be copied instead is copied by :meth:`carry`. Constants that graphs say
    themselves are in memory once for equal contents, on any target that can do that.

    Args:
        target: Where the graphs run.
        weights: A value for every weight of any of the graphs, by name.
        memory: Arrays of the caller's on a GPU, by the names of inputs, outputs and state that are to live there.
    """

    def __init__(
        self, target: Target, weights: Mapping[str, ArrayLike] | None, memory: Mapping[str, Any] | None
    ) -> None:
        self.target = target
        self._device = target if isinstance(target, DeviceTarget) else None
        self._streams = target if isinstance(target, StreamTarget) else None
        if memory and self._device is None:
            message = f"target '{target.name}' cannot use memory of yours"
            raise Unsupported(message, hint="leave memory= out, or take target='cuda'")
        self._weights = weights or {}
        self._memory = dict(memory or {})
        self._given: dict[str, tuple[Buffer, Any]] = {}
        self._givers: list[Program] = []
        self._constants = SharedConstants(target) if isinstance(target, SharingTarget) else None
        self.statistics = ConstantStatistics() if self._constants is None else self._constants.statistics
        """What was done with constants."""

    def can_stream(self, graph: Graph) -> bool:
        """Whether a graph can be loaded without an executable."""
        return self._streams is not None and self._streams.can_stream(graph)

    def load(self, graph: Graph, *, exact: bool = False, streamed: bool = False) -> Program:
        """Load a graph, with ``streamed`` without an executable.

        With ``exact`` every weight and array of the caller's must belong to it.

        Raises:
            InvalidInput: If a weight or array does not fit, or is missing.
            Unsupported: If the target cannot run some node.
        """
        weights: Mapping[str, Any] = self._weights
        if not exact:
            wanted = (buffer.name for buffer in graph.buffers.values() if buffer.needs_value)
            weights = {name: weights[name] for name in wanted if name in weights}
        constants = {} if self._constants is None else self._constants.hold(graph)
        if constants:
            check_weights(graph, weights)  # of the caller's, no constant may be hidden
            weights = ChainMap[str, Any](constants, weights)  # type: ignore[arg-type]  # nobody writes to it
        if self._device is None:
            return self.target.load(graph, weights)
        memory = {name: array for name, array in self._memory.items() if exact or name in graph.buffers}
        given = {name: self._given[name][1] for name in self._given if self._fits(graph, name)}
        shared = {name: array for name, array in given.items() if graph.buffers[name].role is BufferRole.STATE}
        held = {name: array for name, array in given.items() if name not in shared}
        load = self._streams.load_streamed if streamed and self._streams is not None else self._device.load
        program = load(graph, {**weights, **held}, {**memory, **shared} or None)
        self._take_from(graph, program)
        return program

    def carry(self, old: Graph, source: Program, new: Graph, target: Program) -> None:
        """Copy the state that two programs have in common, but not in the same memory."""
        for name in _names(new, BufferRole.STATE):
            if self.is_shared(new, name):
                continue
            if name in old.buffers and _same_values(old.buffers[name], new.buffers[name]):
                target.write(name, source.read(name))

    def close(self) -> None:
        """Let go of the memory that was given."""
        self._given.clear()
        self._givers.clear()
        if self._constants is not None:
            self._constants.close()

    # Constants

    @property
    def constant_bytes(self) -> int:
        """Bytes of memory for constants of all programs."""
        return 0 if self._constants is None else self._constants.size_bytes

    def missing_bytes(self, graph: Graph) -> int:
        """About how many bytes of constants a graph would add."""
        return 0 if self._constants is None else self._constants.missing_bytes(graph)

    def constants(self) -> frozenset[bytes]:
        """The contents of all constants in memory."""
        return frozenset() if self._constants is None else self._constants.contents()

    def sweep(self) -> None:
        """Give back constants that no program uses any more; to be called when one was closed."""
        if self._constants is not None:
            self._constants.sweep()

    # Memory of buffers of one name

    def has_memory_of(self, program: Program | None) -> bool:
        """Whether the memory of a program stays when it is closed, since others use a part of it."""
        return any(giver is program for giver in self._givers)

    def read(self, name: str) -> NDArray[Any] | None:
        """A copy of state that outlives its program; ``None`` if there is none of that name."""
        return self._given[name][1].numpy() if name in self._given else None

    def state_names(self, graph: Graph) -> list[str]:
        """The state of a graph."""
        return _names(graph, BufferRole.STATE)

    def is_shared(self, graph: Graph, name: str) -> bool:
        """Whether the programs of these sources have a buffer in the same memory."""
        return name in self._memory or self._fits(graph, name)

    def shared_names(self, graph: Graph) -> frozenset[str]:
        """The buffers of a graph whose memory other programs of these sources may use."""
        return frozenset((*_names(graph, BufferRole.STATE), *(name for name in self._memory if name in graph.buffers)))

    def _fits(self, graph: Graph, name: str) -> bool:
        """Whether memory that was given can stand for a buffer of a graph."""
        known, buffer = self._given.get(name), graph.buffers.get(name)
        if known is None or buffer is None or buffer.contents is not None:
            return False
        return _same_values(known[0], buffer) and _is_alone(graph, buffer)

    def _take_from(self, graph: Graph, program: DeviceProgram) -> None:
        for name in (*_names(graph, BufferRole.WEIGHT), *_names(graph, BufferRole.STATE)):
            buffer = graph.buffers[name]
            if buffer.contents is not None:
                continue  # two graphs may give one name to other constants
            if name not in self._given and name not in self._memory and _is_alone(graph, buffer):
                self._given[name] = buffer, program.buffer(name)
                self._givers.append(program)


def _names(graph: Graph, role: BufferRole) -> list[str]:
    return [buffer.name for buffer in graph.buffers.values() if buffer.role is role]


def _same_values(old: Buffer, new: Buffer) -> bool:
    """Whether a value of one is a value of the other."""
    return (old.dtype, old.shape, old.role, old.index) == (new.dtype, new.shape, new.role, new.index)


def _is_alone(graph: Graph, buffer: Buffer) -> bool:
    """Whether a buffer fills an allocation of its own on the GPU: only such memory can stand in for another's."""
    allocation = graph.allocations[buffer.allocation]
    if allocation.place.kind != "device" or buffer.offset or buffer.size != allocation.size:
        return False
    return sum(other.allocation == buffer.allocation for other in graph.buffers.values()) == 1
