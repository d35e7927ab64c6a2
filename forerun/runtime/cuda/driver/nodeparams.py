"""``CUgraphNodeParams``, written as bytes: the bindings' attributes cost more than the driver's own work.

Layouts: cuda.h of CUDA 13.0, on a 64-bit host: ``type``, three reserved integers, a union of 232 bytes, and a reserved
word. Bytes that are not used must be zero. tests/runtime/cuda/test_nodeparams.py compares them with the bindings.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

__all__ = [
    "BODIES_AT",
    "KERNEL_PARAMETERS_AT",
    "SIZE",
    "NodeParams",
    "child",
    "conditional",
    "copy",
    "empty",
    "fill",
    "host",
    "kernel",
]

SIZE = 256
"""Bytes of ``CUgraphNodeParams``."""

_TYPE = struct.Struct("<i12x")
_KERNEL = struct.Struct("<Q7I4xQQQQ")
_COPY = struct.Struct("<iiQ" + 2 * "4QI4xQQQQQQ" + "3Q")
_FILL = struct.Struct("<QQIIQQQ")
_HOST = struct.Struct("<QQ")
_CHILD = struct.Struct("<QI4x")
_CONDITIONAL = struct.Struct("<QIIQQ")

KERNEL_PARAMETERS_AT = _TYPE.size + struct.calcsize("<Q7I4x")
"""Where ``kernelParams`` stands: the one field that differs from node to node of a unit."""

BODIES_AT = _TYPE.size + struct.calcsize("<QII")
"""Where the driver puts the address of the bodies' handles of a conditional node."""

_KINDS = {"kernel": 0, "copy": 1, "fill": 2, "host": 3, "child": 4, "empty": 5, "conditional": 13}
_HOST_MEMORY, _DEVICE_MEMORY = 1, 2


class NodeParams:
    """One ``CUgraphNodeParams`` of the bindings, for node after node: what ``cuGraphAddNode`` takes, and its bytes."""

    def __init__(self, api: Any) -> None:
        self.params = api.CUgraphNodeParams()
        self.view = memoryview((ctypes.c_uint8 * SIZE).from_address(self.params.getPtr())).cast("B")

    def word(self, at: int) -> int:
        """The 64-bit word at an offset."""
        return int.from_bytes(self.view[at : at + 8], "little")


def _padded(kind: str, fields: bytes = b"") -> bytes:
    return (_TYPE.pack(_KINDS[kind]) + fields).ljust(SIZE, b"\0")


def kernel(
    function: int, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, parameters: int = 0
) -> bytes:
    """A kernel node of a ``CUfunction``; ``parameters`` is the address of an array of pointers to values."""
    return _padded("kernel", _KERNEL.pack(function, *grid, *block, shared_bytes, parameters, 0, 0, 0))


def copy(source: tuple[int, int], destination: tuple[int, int], width: int, rows: int, context: int) -> bytes:
    """A copy of ``rows`` rows of ``width`` bytes between memories given as ``(address, pitch)``.

    A negative pitch says that the memory is the host's.
    """
    ends = [field for end in (source, destination) for field in _copy_end(*end, rows)]
    return _padded("copy", _COPY.pack(0, 0, context, *ends, width, rows, 1))


def _copy_end(address: int, pitch: int, rows: int) -> tuple[int, ...]:
    on_host = pitch < 0
    kind = _HOST_MEMORY if on_host else _DEVICE_MEMORY
    return (0, 0, 0, 0, kind, address if on_host else 0, 0 if on_host else address, 0, 0, abs(pitch), rows)


def fill(address: int, value: int, element_size: int, width: int, rows: int, pitch: int, context: int) -> bytes:
    """A fill of ``rows`` rows of ``width`` elements."""
    return _padded("fill", _FILL.pack(address, pitch, value, element_size, width, rows, context))


def host(function: int, argument: int = 0) -> bytes:
    """A call of a C function."""
    return _padded("host", _HOST.pack(function, argument))


def child(graph: int) -> bytes:
    """A graph as a node; the driver clones it."""
    return _padded("child", _CHILD.pack(graph, 0))


def empty() -> bytes:
    """A node that does nothing."""
    return _padded("empty")


def conditional(handle: int, kind: int, bodies: int, context: int) -> bytes:
    """A conditional node: ``kind`` is 0 for if, 1 for while, 2 for switch."""
    return _padded("conditional", _CONDITIONAL.pack(handle, kind, bodies, 0, context))
