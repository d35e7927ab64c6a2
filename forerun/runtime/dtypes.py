"""Element types as NumPy knows them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from forerun.ir.types import DType

__all__ = ["describe", "numpy_dtype"]


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
