"""The condition of conditional nodes: the parameters of the kernel that reads it."""

from __future__ import annotations

import ctypes

from forerun.ir.nodes import ConditionalNode
from forerun.ir.types import DType

__all__ = ["KINDS", "ConditionParameters"]

KINDS = {"if": 0, "while": 1, "switch": 2}
"""``CUgraphConditionalNodeType`` by the node's kind."""


class ConditionParameters:
    """The parameters of one launch of :mod:`~forerun.runtime.cuda.codegen.condition`, in memory.

    Attributes:
        address: Of the array of pointers to them.
    """

    def __init__(self, handle: int, condition: int, dtype: DType, node: ConditionalNode) -> None:
        bodies = len(node.bodies) if node.kind == "switch" else 0
        self._values = (ctypes.c_uint64 * 5)(handle, condition, dtype.itemsize, dtype.is_signed, bodies)
        base = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_uint64 * 5)(*(base + 8 * i for i in range(5)))
        self.address = ctypes.addressof(self._pointers)
