"""What the kernels over rows share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.types import DType
from forerun.kernels.shapes import Floats
from forerun.support.diagnostics import InvalidInput

__all__ = ["SHORT", "Words", "padded", "require_short", "rounded"]

Words: TypeAlias = NDArray[np.int32]

SHORT = (DType.BF16, DType.F16)
"""Types that tensor cores multiply with sums in f32."""


def require_short(dtype: DType) -> None:
    """Check the type of matrices.

    Raises:
        InvalidInput: If tensor cores do not multiply it.
    """
    if DType.of(dtype) not in SHORT:
        raise InvalidInput(f"matrices of type {dtype} are not supported for a ragged batch", hint="bf16 and f16 are")


def rounded(values: Floats, dtype: DType) -> NDArray[Any]:
    """The values in bf16 or f16, rounded to nearest even."""
    import ml_dtypes

    with np.errstate(over="ignore"):
        found: NDArray[Any] = values.astype(ml_dtypes.bfloat16 if dtype is DType.BF16 else np.float16)
    return found


def padded(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """The values of the rows of the batch, and behind them NaN: nobody may read what no row has."""
    found = np.full((rows, *values.shape[1:]), np.nan, values.dtype)
    found[: len(values)] = values
    return found
