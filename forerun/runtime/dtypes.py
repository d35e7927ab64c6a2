"""Element types as NumPy knows them, and the host's memory as arrays that do not own it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.types import DType

__all__ = ["array_at", "bytes_at", "describe", "numpy_dtype"]


@cache
def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of an element type; bf16 is that of ``ml_dtypes``.

    Example:
        >>> numpy_dtype(DType.F32)
        dtype('float32')
    """
    if dtype is DType.BF16:
        import ml_dtypes

        bf16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bf16
    kind = "f" if dtype.is_float else "i" if dtype.is_signed else "u"
    return np.dtype(f"{kind}{dtype.itemsize}")


@cache
def _names() -> dict[np.dtype[Any], str]:
    return {numpy_dtype(dtype): str(dtype) for dtype in DType}


def describe(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Type and shape in forerun's words.

    Example:
        >>> describe(np.dtype(np.float32), (2, 3))
        'f32[2, 3]'
    """
    return f"{_names().get(dtype, str(dtype))}[{', '.join(map(str, shape))}]"


def bytes_at(address: int, size: int) -> NDArray[np.uint8]:
    """The host's memory at an address, as an array that does not own it."""
    view = memoryview((ctypes.c_uint8 * size).from_address(address)).cast("B")
    return np.frombuffer(view, np.uint8)


def array_at(buffer: Buffer, address: int) -> NDArray[Any]:
    """A buffer in the host's memory, as an array that does not own it."""
    return bytes_at(address, buffer.size).view(numpy_dtype(buffer.dtype)).reshape(buffer.shape)
