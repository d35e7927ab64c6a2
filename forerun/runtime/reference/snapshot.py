"""Copies of regions that NumPy treats as it treats the originals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.runtime.reference.memory import ALIGNMENT, Bytes, address, aligned_empty

__all__ = ["snapshot"]


def snapshot(
    data: Bytes, view: NDArray[Any], pending: Iterable[tuple[NDArray[Any], NDArray[Any]]] = ()
) -> NDArray[Any]:
    """A copy of a view as it is now.

    The copy has the strides and the alignment of the view. NumPy and BLAS choose the order of their sums by those, so
    a function gives the same bits for the copy and for the view.

    ``data`` are all bytes of the allocation. What is to be seen in ``pending`` views of them are the values given
    there, in order.

    Returns:
        The elements, not writable.
    """
    low, high = _span(view)
    stores = [(target, value, *_span(target)) for target, value in pending]
    first = min([low, *(start for _, _, start, _ in stores)])
    last = max([high, *(stop for _, _, _, stop in stores)])
    scratch = aligned_empty(last - first, first % ALIGNMENT)
    if stores:
        base = address(data)
        scratch[...] = data[first - base : last - base]
        for target, value, start, _ in stores:
            _window(scratch, target, start - first)[...] = value
        copy = _window(scratch, view, low - first)
    else:
        copy = _window(scratch, view, low - first)
        copy[...] = view
    copy.flags.writeable = False
    return copy


def _span(view: NDArray[Any]) -> tuple[int, int]:
    """The first byte of a view, and the one after its last; strides are never negative here."""
    start = address(view)
    if view.size == 0:
        return start, start
    reach = sum((extent - 1) * stride for extent, stride in zip(view.shape, view.strides, strict=True))
    return start, start + reach + view.itemsize


def _window(scratch: Bytes, view: NDArray[Any], offset: int) -> NDArray[Any]:
    return np.ndarray(view.shape, view.dtype, buffer=scratch, offset=offset, strides=view.strides)
