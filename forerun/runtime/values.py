"""Values that callers give for buffers: checked, and converted where that loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole, DType
from forerun.runtime.constants import held_constants
from forerun.runtime.dtypes import describe, numpy_dtype
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["check_names", "check_weights", "input_array", "state_array", "weight_array", "weight_value"]


_LITERALS = (bool, int, float, list, tuple)


def check_names(what: str, expected: Iterable[str], given: Mapping[str, object]) -> None:
    """Check that exactly the expected buffers are given; ``what`` is ``input`` or ``weight``, for messages.

    Raises:
        InvalidInput: If a name is missing or unknown.
    """
    wanted = dict.fromkeys(expected)
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{what}s are arrays by name, not {type(given).__name__}", hint=f"{what}s={{'x': ...}}")
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


def check_weights(graph: Graph, given: Mapping[str, ArrayLike]) -> None:
    """Check that exactly the weights are given whose contents the graph does not say, and constants that are in memory.

    Raises:
        InvalidInput: If a name is missing or unknown.
    """
    held = held_constants(graph, given)
    for name in given:
        if name in graph.buffers and graph.buffers[name].contents is not None and name not in held:
            raise InvalidInput(f"weight '%{name}' is given, but the graph says what it holds", hint="leave it out")
    expected = [buffer.name for buffer in graph.buffers.values() if buffer.needs_value]
    check_names("weight", expected, {name: None for name in given if name not in held})


def weight_value(buffer: Buffer, given: Mapping[str, ArrayLike]) -> ArrayLike:
    """What a weight holds, as :func:`weight_array` takes it: the caller's value, or what the graph says."""
    if buffer.contents is None:
        return given[buffer.name]
    return np.frombuffer(buffer.contents, numpy_dtype(buffer.dtype)).reshape(buffer.shape)


def weight_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of a weight as an array of exactly the buffer's type and shape; the same memory where it is one.

    Arrays of weights are not converted: that would copy them in silence. Python numbers and lists are, as for inputs.

    Raises:
        InvalidInput: If it has another type or shape.
    """
    if isinstance(value, _LITERALS):
        return _converted("weight", buffer, value)
    array = _as_array("weight", buffer, value)
    if array.dtype != numpy_dtype(buffer.dtype) or array.shape != buffer.shape:
        raise _misfit("weight", buffer, array)
    return array


def input_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of an input as an array of the buffer's type and shape.

    What is of another type is converted if that changes no value: integers that fit, and f64 that the buffer's type
    holds exactly. Python numbers and lists of them are rounded to a floating point buffer, since they are written in
    decimals. A single number does for a buffer of one element.

    Raises:
        InvalidInput: If it does not fit the buffer, would be rounded, or is out of the buffer's bounds.
    """
    return _converted("input", buffer, value)


def state_array(buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    """The value of a state buffer as an array of the buffer's type and shape, converted as by :func:`input_array`.

    Raises:
        InvalidInput: If the buffer is not state, or as for :func:`input_array`.
    """
    if buffer.role is not BufferRole.STATE:
        raise InvalidInput(
            f"buffer '%{buffer.name}' is {buffer.role.value}, not state", hint="only state can be written"
        )
    return _converted("state", buffer, value)


def _converted(what: str, buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    array = _as_array(what, buffer, value)
    is_literal = isinstance(value, _LITERALS)
    if is_literal and array.size == 1 and buffer.count == 1:
        array = array.reshape(buffer.shape)
    if array.shape != buffer.shape:
        raise _misfit(what, buffer, array)
    if array.dtype != numpy_dtype(buffer.dtype):
        rounds = is_literal and buffer.dtype.is_float and array.dtype.kind in "biuf"
        array = (_rounded if rounds else _exactly)(what, buffer, array)
    if buffer.bounds is not None:
        _check_bounds(buffer, array, buffer.bounds)
    if buffer.ascending:
        _check_ascent(buffer, array)
    return array


def _rounded(what: str, buffer: Buffer, array: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        made = array.astype(numpy_dtype(buffer.dtype))
    lost = np.isfinite(array) & ~np.isfinite(made)
    if lost.any():
        raise InvalidInput(f"{what} '%{buffer.name}': {array.flat[int(np.argmax(lost))]} does not fit {buffer.dtype}")
    return made


def _exactly(what: str, buffer: Buffer, array: NDArray[Any]) -> NDArray[Any]:
    """The same values in the buffer's type; bf16 counts as a type of floating point numbers (its kind is V)."""
    dtype = numpy_dtype(buffer.dtype)
    is_number = array.dtype.kind in "biu" or (buffer.dtype.is_float and _is_float(array.dtype))
    if not is_number:
        raise _misfit(what, buffer, array)
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(dtype)
        same = (made.astype(array.dtype) == array) & ((made < 0) == (array < 0))
    if array.dtype.kind not in "biu":
        same |= array != array  # a NaN stays one
    if not same.all():
        at = int(np.argmin(same))
        message = f"{what} '%{buffer.name}': element {at} is {array.flat[at]}, which does not fit {buffer.dtype}"
        if buffer.dtype.is_float:
            raise InvalidInput(f"{message} exactly", hint=_conversion(buffer))
        raise InvalidInput(message)
    return made


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype == numpy_dtype(DType.BF16)


def _conversion(buffer: Buffer) -> str:
    dtype = numpy_dtype(buffer.dtype)
    name = f"{'ml_dtypes' if buffer.dtype is DType.BF16 else 'np'}.{dtype}"
    return f"array.astype({name}) rounds the values"


def _as_array(what: str, buffer: Buffer, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{what} '%{buffer.name}' cannot be made an array: {error}") from error


def _misfit(what: str, buffer: Buffer, array: NDArray[Any]) -> InvalidInput:
    expected = describe(numpy_dtype(buffer.dtype), buffer.shape)
    given = describe(array.dtype, array.shape)
    converts = array.shape == buffer.shape and buffer.dtype.is_float and _is_float(array.dtype)
    hint = _conversion(buffer) if converts else ""
    return InvalidInput(f"{what} '%{buffer.name}': expected {expected}, given {given}", hint=hint)


def _check_ascent(buffer: Buffer, array: NDArray[Any]) -> None:
    values = array.reshape(-1)
    falls = values[1:] < values[:-1]
    if falls.any():
        at = int(np.argmax(falls)) + 1
        what = f"{buffer.role.value} '%{buffer.name}' must ascend"
        raise InvalidInput(f"{what}, but element {at} is {values[at]}, below {values[at - 1]} before it")


def _check_bounds(buffer: Buffer, array: NDArray[Any], bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not (low <= array.min(initial=low) and array.max(initial=low) <= high):
        at = int(np.argmax((array < low) | (array > high)))
        message = (
            f"{buffer.role.value} '%{buffer.name}': element {at} is {array.flat[at]}, out of its bounds {low} to {high}"
        )
        raise InvalidInput(message)
