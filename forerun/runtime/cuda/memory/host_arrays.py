"""The host's memory as NumPy arrays that do not own it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["array_at", "bytes_at"]


def bytes_at(address: int, size: int) -> NDArray[np.uint8]:
    """The host's memory at an address, as an array that does not own it."""
    view = memoryview((ctypes.c_uint8 * size).from_address(address)).cast("B")
    return np.frombuffer(view, np.uint8)


def array_at(buffer: Buffer, address: int) -> NDArray[Any]:
    """A buffer in the host's memory, as an array that does not own it."""
    return bytes_at(address, buffer.size).view(numpy_dtype(buffer.dtype)).reshape(buffer.shape)
