"""Constants that loaded graphs have in common: equal contents lie in memory once, while some program uses them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from forerun.ir.graph import Graph
from forerun.runtime.base import Target

__all__ = ["ConstantMemory", "ConstantStatistics", "HeldConstant", "SharedConstants", "SharingTarget", "held_constants"]


@dataclass(eq=False)
class HeldConstant:
    """Contents in memory. They stay there until the last program, or array that it handed out, lets go of this.

    Targets take it as the value of a buffer with these contents.

    Attributes:
        contents: The bytes.
        place: Where they are, as the target's memory says it: an address, or an array.
    """

    contents: bytes
    place: Any


class ConstantMemory(Protocol):
    """A target's memory for constants."""

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes."""
        ...

    def put(self, contents: Sequence[bytes]) -> Sequence[HeldConstant]:
        """Bring contents to memory, each where a buffer of its own allocation could be."""
        ...

    def free(self, place: Any) -> None:
        """Take back what :meth:`put` gave out; nothing in flight reads it."""
        ...

    def close(self) -> None:
        """Give everything back that nobody holds, and the rest when nobody does."""
        ...


@runtime_checkable
class SharingTarget(Target, Protocol):
    """A target whose programs can have constants in common.

    Attributes:
        constant_alignment: Bytes. Each constant takes a multiple of these.
    """

    constant_alignment: ClassVar[int]

    def constant_memory(self) -> ConstantMemory:
        """Memory for constants of this target's programs; its owner closes it.

        Raises:
            Unsupported: If the target cannot run here.
        """
        ...


@dataclass
class ConstantStatistics:
    """What was done with constants of graphs on the device.

    Attributes:
        uploaded: Bytes that were brought to memory.
        shared: Bytes that were there already, since another program, or another buffer, has the same.
    """

    uploaded: int = 0
    shared: int = 0


class SharedConstants:
    """The constants of the programs of one cache or plan, by their contents. It may be used from any thread.

    The target's memory is made when there is something to put there.

    Attributes:
        statistics: What was done.
    """

    def __init__(self, target: SharingTarget) -> None:
        self.statistics = ConstantStatistics()
        self._target = target
        self._memory: ConstantMemory | None = None
        self._held: weakref.WeakValueDictionary[bytes, HeldConstant] = weakref.WeakValueDictionary()
        # The collector may end the last use at any moment, on any thread: what is free is noted in one step.
        self._free: deque[Any] = deque()
        self._lock = threading.Lock()

    def hold(self, graph: Graph) -> dict[str, HeldConstant]:
        """The constants of a graph on the device, by buffer; what is not in memory yet is brought there.

        Raises:
            CudaError: If there is no room.
        """
        wanted = _contents(graph)
        if not wanted:
            return {}
        with self._lock:
            self._sweep()
            found = {data: held for data in wanted.values() if (held := self._held.get(data)) is not None}
            missing = list(dict.fromkeys(data for data in wanted.values() if data not in found))
            if missing:
                self._memory = self._memory or self._target.constant_memory()
                for held in self._memory.put(missing):
                    weakref.finalize(held, self._free.append, held.place).atexit = False
                    found[held.contents] = self._held[held.contents] = held
            brought = sum(map(len, missing))
            self.statistics.uploaded += brought
            self.statistics.shared += sum(map(len, wanted.values())) - brought
        return {name: found[data] for name, data in wanted.items()}

    def sweep(self) -> None:
        """Give back the memory of constants that no program uses any more.

        Raises:
            CudaError: If the driver does not take it.
        """
        with self._lock:
            self._sweep()

    def contents(self) -> frozenset[bytes]:
        """What is in memory."""
        with self._lock:
            return frozenset(self._held)

    def missing_bytes(self, graph: Graph) -> int:
        """About how many bytes a graph's constants would add."""
        missing = set(_contents(graph).values()) - self.contents()
        alignment = self._target.constant_alignment
        return sum(-(-len(data) // alignment) * alignment for data in missing)

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that it takes."""
        memory = self._memory
        return 0 if memory is None else memory.size_bytes

    def close(self) -> None:
        """Give everything back that no program uses, and the rest when none does. Closing twice is fine."""
        with self._lock:
            memory, self._memory = self._memory, None
            self._held = weakref.WeakValueDictionary()
            self._free = deque()
            if memory is not None:
                memory.close()

    def _sweep(self) -> None:
        while self._memory is not None and self._free:
            self._memory.free(self._free.popleft())


def held_constants(graph: Graph, given: Mapping[str, Any]) -> dict[str, HeldConstant]:
    """Those of the values for a graph's weights that are its constants, in memory already."""
    found = {}
    for buffer in graph.buffers.values():
        if buffer.contents is not None and buffer.name in given:
            value = given[buffer.name]
            if isinstance(value, HeldConstant) and value.contents == buffer.contents:
                found[buffer.name] = value
    return found


def _contents(graph: Graph) -> dict[str, bytes]:
    """The contents of a graph's constants that lie on the device."""
    return {
        buffer.name: buffer.contents
        for buffer in graph.buffers.values()
        if buffer.contents is not None and graph.allocations[buffer.allocation].place.kind == "device"
    }
