"""Vectors as the tensor cores take them: each element is the sum of two numbers of 16 bits.

The kernel that computes an element divides it into the rounded number and the remainder, so that the kernels that read
it need not. An array of vectors is ``[B, K / 2, 2, 2]``: for each two neighbouring elements the two rounded numbers,
then the two remainders. About 2^-18 of an element is lost in bf16, 2^-22 in f16, whose
range elements must be in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.kernels.shapes import Floats

__all__ = ["EIGHT", "divided", "divided_bf16", "divided_f16", "joined", "shape_of", "sums_of_squares"]

EIGHT = 8
"""The number of elements whose squares are summed by the kernel that computes them."""


def shape_of(vectors: int, columns: int) -> tuple[int, int, int, int]:
    """The shape of the array of vectors."""
    return vectors, columns // 2, 2, 2


def divided(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The vectors ``[B, K]`` as halves of a type.

    Example:
        >>> halves = divided(np.float32([[1.001, 2.0]]), np.dtype(np.float16))
        >>> halves.shape, bool(abs(joined(halves)[0, 0] - np.float32(1.001)) < 1e-6)
        ((1, 1, 2, 2), True)
    """
    rounded = values.astype(dtype)
    remainders = (values - rounded.astype(np.float32)).astype(dtype)
    pairs = (half.reshape(len(values), -1, 2) for half in (rounded, remainders))
    return np.stack(tuple(pairs), axis=2)


def divided_bf16(values: Floats) -> NDArray[Any]:
    """The vectors ``[B, K]`` as halves of bf16."""
    import ml_dtypes

    return divided(values, np.dtype(ml_dtypes.bfloat16))


def divided_f16(values: Floats) -> NDArray[Any]:
    """The vectors ``[B, K]`` as halves of f16."""
    return divided(values, np.dtype(np.float16))


def joined(halves: NDArray[Any]) -> Floats:
    """The vectors ``[B, K]`` in f32."""
    sums: Floats = halves[:, :, 0].astype(np.float32) + halves[:, :, 1].astype(np.float32)
    return sums.reshape(len(halves), -1)


def sums_of_squares(values: Floats) -> Floats:
    """The sum of the squares of every eight elements ``[B, K / 8]``."""
    sums: Floats = np.square(values).reshape(len(values), -1, EIGHT).sum(axis=2)
    return sums
