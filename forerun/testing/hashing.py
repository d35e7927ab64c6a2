"""NumPy functions for the phases of kernels that nobody wrote: generated ones, of any shape.

They take any type, and return i32, which is converted where it is stored.

Every result depends on every operand, its place and its order, so that a value that is stale, missing or swapped shows
in whatever is computed from it. Kernels whose phases name these functions replay from a ``.fir`` file alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDTHS", "digest", "store_1", "store_2", "store_4", "store_name"]

WIDTHS = (1, 2, 4)
"""How many elements the stores can write."""

_MASK = (1 << 32) - 1


def digest(*operands: Any) -> np.int32:
    """A hash of all operands: what a phase defines that only reads."""
    return np.int32(_signed(_hash(operands)))


def store_1(*operands: Any) -> NDArray[np.int32]:
    """One element."""
    return _elements(operands, 1)


def store_2(*operands: Any) -> NDArray[np.int32]:
    """Two different elements."""
    return _elements(operands, 2)


def store_4(*operands: Any) -> NDArray[np.int32]:
    """Four different elements."""
    return _elements(operands, 4)


def store_name(width: int) -> str:
    """The name of the function that writes ``width`` elements.

    Example:
        >>> store_name(2)
        'store_2'
    """
    return f"store_{width}"


def cuda_phases(*declaration: Any) -> Any:
    """The phases in CUDA C++; see :mod:`forerun.runtime.cuda.codegen.generated`."""
    from forerun.testing.hashing_codegen import generated_phases

    return generated_phases(*declaration)


def _elements(operands: tuple[Any, ...], width: int) -> NDArray[np.int32]:
    start = _hash(operands)
    return np.array([_signed((start + 0x01000193 * i) & _MASK) for i in range(width)], np.int32)


def _hash(operands: tuple[Any, ...]) -> int:
    """FNV-1a over whole numbers instead of bytes, with the number of operands in front."""
    value = 0x811C9DC5 ^ len(operands)
    for operand in operands:
        for number in _whole_numbers(operand):
            value = (value ^ int(number) & _MASK) * 0x01000193 & _MASK
            value ^= value >> 15
    return value


def _whole_numbers(operand: Any) -> list[int]:
    """Integers as they are; of other types the bits, so that no two values are taken for one."""
    flat = np.ravel(operand)
    found: list[int] = (flat if flat.dtype.kind in "iub" else flat.view(f"u{flat.itemsize}")).tolist()
    return found


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
