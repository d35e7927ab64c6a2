"""Values that callers give for buffers: checked, and converted where that loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.types import BufferRole
from forerun.runtime.dtypes import describe, numpy_dtype
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["check_names", "input_array", "state_array", "weight_array"]


def check_names(what: str, expected: Iterable[str], given: Mapping[str, ArrayLike]) -> None:
    """Check that exactly the expected buffers are given.

    Args:
        what: ``input`` or ``weight``, for messages.
        expected: Names of buffers.
        given: What the caller passed.

    Raises:
        InvalidInput: If a name is missing or unknown.
    """
    wanted = dict.fromkeys(expected)
    if wanted.keys() == given.keys():
        return
    missing = [name for name in wanted if name not in given]
    for name in given:
        if name not in wanted:
            hint = did_you_mean(str(name), missing or wanted, sigil="%")
            raise InvalidInput(f"the graph has no {what} '%{name}'", hint=hint)
    if missing:
        shown = ", ".join(f"%{name}" for name in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise InvalidInput(f"no value for {what} {shown}{more}", hint=f"pass {what}s={{'{missing[0]}': ...}}")


def weight_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of a weight as an array of exactly the buffer's type and shape; the same memory where it is one.

    Raises:
        InvalidInput: If it has another type or shape: weights are never converted silently.
    """
    array = _as_array("weight", buffer, value)
    _require(array.dtype == numpy_dtype(buffer.dtype) and array.shape == buffer.shape, "weight", buffer, array)
    return array


def input_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of an input as an array of the buffer's type and shape.

    Arrays may be of a type that converts safely (i32 to i64, f32 to f64). Python numbers and lists of them may be of
    any type that holds their values (integers that fit; any number for a floating point buffer), and a single number
    does for a buffer of one element.

    Raises:
        InvalidInput: If it does not fit the buffer, or is out of the buffer's bounds.
    """
    literal = isinstance(value, bool | int | float | list | tuple)
    array = _as_array("input", buffer, value)
    if literal and array.size == 1 and buffer.count == 1:
        array = array.reshape(buffer.shape)
    dtype = numpy_dtype(buffer.dtype)
    fits = array.dtype == dtype or (
        _literal_fits(array, buffer) if literal else np.can_cast(array.dtype, dtype, "safe")
    )
    _require(fits and array.shape == buffer.shape, "input", buffer, array)
    array = array.astype(dtype, copy=False)
    if buffer.bounds is not None:
        _check_bounds(buffer, array, buffer.bounds)
    return array


def state_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of a state buffer as an array of exactly the buffer's type and shape.

    Raises:
        InvalidInput: If the buffer is not state, or the value has another type or shape, or is out of its bounds.
    """
    if buffer.role is not BufferRole.STATE:
        raise InvalidInput(
            f"buffer '%{buffer.name}' is {buffer.role.value}, not state", hint="only state can be written"
        )
    array = _as_array("state", buffer, value)
    _require(array.dtype == numpy_dtype(buffer.dtype) and array.shape == buffer.shape, "state", buffer, array)
    if buffer.bounds is not None:
        _check_bounds(buffer, array, buffer.bounds)
    return array


def _as_array(what: str, buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{what} '%{buffer.name}' cannot be made an array: {error}") from error


def _require(fits: bool, what: str, buffer: Buffer, array: NDArray[Any]) -> None:
    if not fits:
        expected = describe(numpy_dtype(buffer.dtype), buffer.shape)
        given = describe(array.dtype, array.shape)
        raise InvalidInput(f"{what} '%{buffer.name}': expected {expected}, given {given}")


def _literal_fits(array: NDArray[Any], buffer: Buffer) -> bool:
    if buffer.dtype.is_float:
        return array.dtype.kind in "biuf"
    if array.dtype.kind not in "biu":
        return False
    limits = np.iinfo(numpy_dtype(buffer.dtype))
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < limits.min or high > limits.max:
        bad = low if low < limits.min else high
        raise InvalidInput(f"input '%{buffer.name}': {bad} does not fit {buffer.dtype}")
    return True


def _check_bounds(buffer: Buffer, array: NDArray[Any], bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not (low <= array.min(initial=low) and array.max(initial=low) <= high):
        at = int(np.argmax((array < low) | (array > high)))
        message = (
            f"{buffer.role.value} '%{buffer.name}': element {at} is {array.flat[at]}, out of its bounds {low} to {high}"
        )
        raise InvalidInput(message)
