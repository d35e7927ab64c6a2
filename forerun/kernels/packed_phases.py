"""Phases of packed matrices: one NumPy function for each packing, since a phase names a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Access, Phase
from forerun.ir.phases import PhaseFunction, Piece
from forerun.ir.trust import function_path
from forerun.kernels.packing import Q4_0, Q4_1, Q4_K, Q6_K, Q8_0, Packing, Storage, unpacked
from forerun.kernels.shapes import Floats

__all__ = [
    "gather_phase",
    "gather_q4_0",
    "gather_q4_1",
    "gather_q4_k",
    "gather_q6_k",
    "gather_q8_0",
    "load_phase",
    "unpack_q4_0",
    "unpack_q4_1",
    "unpack_q4_k",
    "unpack_q6_k",
    "unpack_q8_0",
]

Bytes: TypeAlias = NDArray[np.uint8]
Unpacked: TypeAlias = Floats | tuple[Floats, ...]


def unpack_q8_0(*matrices: Bytes) -> Unpacked:
    """The matrices, in f32."""
    return _all(matrices, Q8_0)


def unpack_q4_0(*matrices: Bytes) -> Unpacked:
    """The matrices, in f32."""
    return _all(matrices, Q4_0)


def unpack_q4_1(*matrices: Bytes) -> Unpacked:
    """The matrices, in f32."""
    return _all(matrices, Q4_1)


def unpack_q4_k(*matrices: Bytes) -> Unpacked:
    """The matrices, in f32."""
    return _all(matrices, Q4_K)


def unpack_q6_k(*matrices: Bytes) -> Unpacked:
    """The matrices, in f32."""
    return _all(matrices, Q6_K)


def gather_q8_0(row: Bytes) -> Floats:
    """The row as a vector."""
    return unpacked(row, Q8_0).reshape(-1)


def gather_q4_0(row: Bytes) -> Floats:
    """The row as a vector."""
    return unpacked(row, Q4_0).reshape(-1)


def gather_q4_1(row: Bytes) -> Floats:
    """The row as a vector."""
    return unpacked(row, Q4_1).reshape(-1)


def gather_q4_k(row: Bytes) -> Floats:
    """The row as a vector."""
    return unpacked(row, Q4_K).reshape(-1)


def gather_q6_k(row: Bytes) -> Floats:
    """The row as a vector."""
    return unpacked(row, Q6_K).reshape(-1)


_UNPACK: dict[str, Callable[..., Any]] = {
    "q8_0": unpack_q8_0,
    "q4_0": unpack_q4_0,
    "q4_1": unpack_q4_1,
    "q4_k": unpack_q4_k,
    "q6_k": unpack_q6_k,
}
_GATHER = {"q8_0": gather_q8_0, "q4_0": gather_q4_0, "q4_1": gather_q4_1, "q4_k": gather_q4_k, "q6_k": gather_q6_k}


def load_phase(plain: Piece, storage: Storage, *matrices: str, asynchronous: bool = True) -> Piece:
    """The phase ``load_weights`` of a kernel for how its matrices are stored: ``plain``, unless they are packed.

    The matrix ``w`` is defined as ``tile``, ``w_gate`` as ``tile_gate``.
    """
    if not isinstance(storage, Packing):
        return plain
    defines = tuple(f"tile{name.removeprefix('w')}" for name in matrices)
    reads = tuple(map(Access, matrices))
    return Phase("load_weights", reads, (), (), defines, (), asynchronous, function_path(_UNPACK[str(storage)]))


def gather_phase(plain: Piece, storage: Storage) -> Piece:
    """The phase ``gather`` of a table that is stored so: ``plain``, unless it is packed."""
    if not isinstance(storage, Packing):
        return plain
    return PhaseFunction(_GATHER[str(storage)], writes="y", reads="table[token:token + 1]", name="gather")


def _all(matrices: tuple[Bytes, ...], packing: Packing) -> Unpacked:
    found = tuple(unpacked(matrix, packing) for matrix in matrices)
    return found[0] if len(found) == 1 else found
