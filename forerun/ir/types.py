"""Scalar and tensor element types, places, and the roles that buffers play."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass

from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["DEVICE0", "HOST", "BufferRole", "DType", "DependencyKind", "Place"]


class DType(enum.Enum):
    """An element type. The value is ``(name, size in bytes, is floating point, is signed)``."""

    F64 = ("f64", 8, True, True)
    F32 = ("f32", 4, True, True)
    F16 = ("f16", 2, True, True)
    BF16 = ("bf16", 2, True, True)
    I64 = ("i64", 8, False, True)
    I32 = ("i32", 4, False, True)
    I16 = ("i16", 2, False, True)
    I8 = ("i8", 1, False, True)
    U64 = ("u64", 8, False, False)
    U32 = ("u32", 4, False, False)
    U16 = ("u16", 2, False, False)
    U8 = ("u8", 1, False, False)

    @classmethod
    def of(cls, value: object) -> DType:
        """The element type that something names: text, or a type of NumPy, ml_dtypes, torch or JAX.

        None of these is imported: what counts is how the type is called.

        Raises:
            InvalidInput: If it names none.

        Example:
            >>> DType.of("f32"), DType.of("bfloat16")
            (<DType.F32: ('f32', 4, True, True)>, <DType.BF16: ('bf16', 2, True, True)>)
        """
        if isinstance(value, cls):
            return value
        name = value if isinstance(value, str) else getattr(value, "name", getattr(value, "__name__", str(value)))
        found = _DTYPES.get(str(name).removeprefix("torch."))
        swapped = getattr(value, "byteorder", "=") == (">" if sys.byteorder == "little" else "<")
        if found is None or swapped:
            raise InvalidInput(f"{value!r} is not an element type", hint=_closest_dtype(str(name), swapped))
        return found

    @property
    def itemsize(self) -> int:
        """Size of one element in bytes."""
        return self._value_[1]

    @property
    def is_float(self) -> bool:
        """Whether values are floating point numbers."""
        return self._value_[2]

    @property
    def is_signed(self) -> bool:
        """Whether values can be negative."""
        return self._value_[3]

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value of an integer type."""
        bits = 8 * self.itemsize
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if self.is_signed else (0, (1 << bits) - 1)

    def __str__(self) -> str:
        return self.value[0]

    # Members are singletons; identity hashing is what Enum means and is much faster than hashing the name.
    __hash__ = object.__hash__


def _names() -> dict[str, DType]:
    words = {"f": "float", "i": "int", "u": "uint", "b": "bfloat"}
    long = {words[str(dtype)[0]] + str(dtype).lstrip("bfiu"): dtype for dtype in DType}
    return {**{str(dtype): dtype for dtype in DType}, **long, "half": DType.F16, "double": DType.F64}


_DTYPES = _names()
_CLOSEST = {
    "float": "'f32' or 'f64'",
    "int": "'i32' or 'i64'",
    "long": "'i64'",
    "short": "'i16'",
    "char": "'i8'",
    "bool": "'u8'",
    "bool_": "'u8'",
}


def _closest_dtype(name: str, swapped: bool) -> str:
    if swapped:
        return "its bytes are in the order of another machine; astype() changes it"
    known = _CLOSEST.get(name.removeprefix("torch."))
    return did_you_mean(name, _DTYPES) if known is None else f"say {known}"


class BufferRole(enum.Enum):
    """What a buffer is for: who writes it, who reads it, and how long its bytes live.

    ``INPUT`` is written by the caller before each replay, ``OUTPUT`` is read by the caller after it, ``WEIGHT`` is
    never written by any replay, ``STATE`` survives from one replay to the next, ``TEMP`` lives within one replay,
    ``PARAM`` holds launch parameters that the host uploads.
    """

    INPUT = "input"
    OUTPUT = "output"
    WEIGHT = "weight"
    STATE = "state"
    TEMP = "temp"
    PARAM = "param"

    def __str__(self) -> str:
        return self.value

    __hash__ = object.__hash__


class DependencyKind(enum.Enum):
    """How a dependency orders its two nodes (see docs/ir.md, "Dependencies").

    ``FULL``: the source is complete and flushed before the target starts. ``PROGRAMMATIC``: the target may start once
    every CTA of the source has triggered or exited; its wait returns when the source is complete and flushed.
    ``LAUNCH_ORDER``: starts are ordered at best; no data order is derived from it.
    """

    FULL = "full"
    PROGRAMMATIC = "programmatic"
    LAUNCH_ORDER = "launch_order"

    def __str__(self) -> str:
        return self.value

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Place:
    """Where memory lives or a node runs: one device, or the host."""

    kind: str = "device"
    index: int = 0

    def __str__(self) -> str:
        return "host" if self.kind == "host" else f"{self.kind}:{self.index}"


DEVICE0 = Place("device", 0)
HOST = Place("host", 0)
