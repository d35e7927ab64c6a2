"""Numbers as the bytes that buffers hold: little-endian, one after the other."""

from __future__ import annotations

import numbers
import operator
import struct
from collections.abc import Iterable

from forerun.ir.types import DType
from forerun.support.diagnostics import InvalidInput

__all__ = ["bytes_of_integers", "bytes_of_numbers", "integers_of", "numbers_of", "shape_and_bytes"]

_FLOATS = {DType.F64: "d", DType.F32: "f", DType.F16: "e"}


def bytes_of_integers(dtype: DType, values: Iterable[int]) -> bytes:
    """The bytes of the elements that integers are, modulo what an element holds; of floating point types the bits.

    Example:
        >>> bytes_of_integers(DType.I16, [1, -1]).hex()
        '0100ffff'
    """
    size = dtype.itemsize
    return b"".join((value % (1 << 8 * size)).to_bytes(size, "little") for value in values)


def integers_of(dtype: DType, contents: bytes) -> tuple[int, ...]:
    """The elements that some bytes are; of floating point types the bits. Bytes that fill no element are left out.

    Example:
        >>> integers_of(DType.U8, bytes([1, 255])), integers_of(DType.I8, bytes([1, 255]))
        ((1, 255), (1, -1))
    """
    size, signed = dtype.itemsize, dtype.is_signed and not dtype.is_float
    starts = range(0, len(contents) - size + 1, size)
    return tuple(int.from_bytes(contents[i : i + size], "little", signed=signed) for i in starts)


def bytes_of_numbers(dtype: DType, values: Iterable[int | float]) -> bytes:
    """The bytes of numbers; those for a floating point type are rounded to it.

    Raises:
        ValueError: If a number does not fit.

    Example:
        >>> bytes_of_numbers(DType.F32, [1, 0.5]).hex()
        '0000803f0000003f'
    """
    try:
        if dtype is DType.BF16:
            return bytes_of_integers(dtype, [_bf16(value) for value in values])
        if dtype.is_float:
            elements = tuple(values)
            return struct.pack(f"<{len(elements)}{_FLOATS[dtype]}", *elements)
        return bytes_of_integers(dtype, [_element(dtype, value) for value in values])
    except (OverflowError, struct.error) as error:
        raise ValueError(f"a number is not a value of {dtype}") from error


def numbers_of(dtype: DType, contents: bytes) -> tuple[int | float, ...]:
    """The numbers that some bytes are; those that fill no element are left out.

    Example:
        >>> numbers_of(DType.F32, bytes_of_numbers(DType.F32, [0.5, 2])), numbers_of(DType.BF16, bytes([0x80, 0x3F]))
        ((0.5, 2.0), (1.0,))
    """
    elements = integers_of(dtype, contents)
    if not dtype.is_float:
        return elements
    if dtype is DType.BF16:
        return tuple(struct.unpack("<f", struct.pack("<I", bits << 16))[0] for bits in elements)
    return struct.unpack(f"<{len(elements)}{_FLOATS[dtype]}", contents[: len(elements) * dtype.itemsize])


def shape_and_bytes(dtype: DType, values: object) -> tuple[tuple[int, ...], bytes]:
    r"""The shape and the bytes of a number, a list of numbers, or an array of that type.

    Raises:
        ValueError: If they are none of the type.

    Example:
        >>> shape_and_bytes(DType.U8, [1, 2])
        ((2,), b'\x01\x02')
    """
    if hasattr(values, "tobytes") and hasattr(values, "shape"):
        try:
            found = DType.of(getattr(values, "dtype", None))
        except InvalidInput as error:
            raise ValueError(error.message) from error
        if found is not dtype:
            raise ValueError(f"the array has elements of {found}, not {dtype}")
        return tuple(values.shape), values.tobytes()
    if isinstance(values, str | bytes):
        raise ValueError(f"{values!r} is not a list of numbers")
    elements = [*values] if isinstance(values, Iterable) else [values]
    return (len(elements),), bytes_of_numbers(dtype, [_plain(element) for element in elements])


def _plain(value: object) -> int | float:
    """A number as Python's own."""
    if not isinstance(value, numbers.Real):
        raise ValueError(f"{value!r} is not a number")
    return operator.index(value) if isinstance(value, numbers.Integral) else float(value)


def _bf16(value: int | float) -> int:
    """The bits of the closest bf16, the even one of two: the upper half of an f32."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    if value != value:
        return bits >> 16 | 0x40  # rounding could make an infinity of it
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def _element(dtype: DType, value: int | float) -> int:
    low, high = dtype.range
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} is not a value of {dtype}")
    return value
