"""Graph nodes. Class names follow ``cuda.core``; each kind is a frozen value."""

from __future__ import annotations

import numbers
import operator
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from forerun.ir.region import BufferView
from forerun.ir.types import DEVICE0, HOST, Place

if TYPE_CHECKING:
    from forerun.ir.graph import Graph

__all__ = [
    "AllocNode",
    "Argument",
    "BufferArgument",
    "ChildGraphNode",
    "ConditionalNode",
    "ConstantArgument",
    "EmptyNode",
    "EventRecordNode",
    "EventWaitNode",
    "FreeNode",
    "HostCallbackNode",
    "KernelNode",
    "Launch",
    "MemcpyNode",
    "MemsetNode",
    "Node",
    "ScalarLoad",
    "is_host_work",
]


@dataclass(frozen=True, slots=True)
class BufferArgument:
    """The address of a buffer.

    Attributes:
        partial: Whether what the kernel's phases name of it is a bound: in this node they touch some of these bytes, or
            none. Such a write covers nothing, and no race with such an access is certain.
    """

    buffer: str
    partial: bool = False


@dataclass(frozen=True, slots=True)
class ConstantArgument:
    """A scalar that is the same in every replay; or, if it has a name, until the program's owner changes it.

    Constants are equal if and only if their names, types and bits are: ``0.0`` is neither ``-0.0`` nor ``0``, and a NaN
    equals itself. ``True`` and numbers of other libraries are stored as the ``int`` or ``float`` that they are.
    """

    value: int | float
    name: str = ""

    def __post_init__(self) -> None:
        if type(self.value) is not int and type(self.value) is not float:
            object.__setattr__(self, "value", _plain(self.value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConstantArgument):
            return NotImplemented
        value, wanted = self.value, other.value
        if type(value) is not type(wanted) or self.name != other.name:
            return False
        if type(value) is float and (value == 0 or value != value):
            return _pack(value) == _pack(wanted)
        return value == wanted

    def __hash__(self) -> int:
        return hash((type(self.value), _bits(self.value), self.name))  # Python hashes a NaN by where it lies


@dataclass(frozen=True, slots=True)
class ScalarLoad:
    """A scalar that the kernel loads from memory: element ``index`` of an integer ``buffer``, plus ``offset``.

    The load is an access of every phase that uses the scalar.
    """

    buffer: str
    index: int = 0
    offset: int = 0


def _plain(value: object) -> object:
    """A number as Python's own; everything else as it is, for the verifier to judge."""
    if isinstance(value, numbers.Integral):
        return int(operator.index(value))
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        return float(value)
    return value


_pack = struct.Struct("<d").pack


def _bits(value: object) -> object:
    return _pack(value) if type(value) is float else value


Argument: TypeAlias = BufferArgument | ConstantArgument | ScalarLoad


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch configuration: CTAs and threads a CTA in x, y, z, and dynamic shared memory in bytes a CTA."""

    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (128, 1, 1)
    shared_bytes: int = 0
    cluster: tuple[int, int, int] | None = None
    cooperative: bool = False


@dataclass(frozen=True, slots=True)
class KernelNode:
    """A kernel launch. ``arguments`` pairs each parameter's name with what is bound to it, in parameter order.

    ``fuses`` names the nodes of an earlier graph that it stands for: a claim, which certificates check.
    """

    name: str
    kernel: str
    arguments: tuple[tuple[str, Argument], ...] = ()
    launch: Launch = Launch()
    place: Place = DEVICE0
    fuses: tuple[str, ...] = ()

    def argument(self, parameter: str) -> Argument | None:
        """What is bound to a parameter, or ``None``."""
        return next((argument for name, argument in self.arguments if name == parameter), None)


@dataclass(frozen=True, slots=True)
class MemcpyNode:
    """A copy of ``source`` to ``destination``, which have the same dtype and the same number of elements."""

    name: str
    source: BufferView
    destination: BufferView
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class MemsetNode:
    """Writes ``value``, as an unsigned element of the destination's width (1, 2 or 4 bytes), to every element."""

    name: str
    destination: BufferView
    value: int = 0
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class HostCallbackNode:
    """A call of a Python function.

    Attributes:
        function: ``module:function``.
        reads: Host memory that it reads.
        writes: Host memory that it writes, every byte of it.
        pure: Whether it does nothing but read and write these. Other calls may do anything that the device's work can
            see or be seen by, so nothing may move across them.
    """

    name: str
    function: str
    reads: tuple[BufferView, ...] = ()
    writes: tuple[BufferView, ...] = ()
    place: Place = HOST
    pure: bool = False


@dataclass(frozen=True, slots=True)
class EmptyNode:
    """Does nothing; joins dependencies."""

    name: str
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class AllocNode:
    """Makes the memory of an allocation usable; what it held before is lost."""

    name: str
    allocation: str
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class FreeNode:
    """Ends the use of an allocation that an :class:`AllocNode` began."""

    name: str
    allocation: str
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class EventRecordNode:
    """Records an event that others outside the graph may wait for."""

    name: str
    event: str
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class EventWaitNode:
    """Waits for an event that was recorded outside the graph."""

    name: str
    event: str
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class ChildGraphNode:
    """Runs another graph as one node. The body's nodes name buffers and kernels of the enclosing graph."""

    name: str
    body: Graph
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class ConditionalNode:
    """Runs bodies under the control of element 0 of the integer buffer ``condition``.

    ``kind`` is ``if`` (bodies: then, and optionally else), ``while`` (one body, while the element is not zero) or
    ``switch`` (body number *element*, none if out of range). Bodies name buffers and kernels of the enclosing graph.
    """

    name: str
    kind: str
    condition: str
    bodies: tuple[Graph, ...]
    place: Place = DEVICE0


Node: TypeAlias = (
    KernelNode
    | MemcpyNode
    | MemsetNode
    | HostCallbackNode
    | EmptyNode
    | AllocNode
    | FreeNode
    | EventRecordNode
    | EventWaitNode
    | ChildGraphNode
    | ConditionalNode
)


def is_host_work(node: Node) -> bool:
    """Whether a node runs on the host; copies between places do not."""
    return isinstance(node, HostCallbackNode) or (isinstance(node, KernelNode) and node.place.kind == "host")
