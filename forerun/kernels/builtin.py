"""Small kernels for random programs and tests, on i32 and f32, so that a graph's file replays with nothing else.

Every kernel has phases like real ones: what reads operands defines locals, what combines them stores. None of the
functions commutes with another by chance, so that a wrong order shows: i32 wraps around, f32 stays bounded.

In CUDA they work element by element, in any launch: parameters may be bound to one buffer, but not to buffers that
overlap in part, if one of them is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Kernel
from forerun.ir.phases import Piece, phase, phase_of
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda_kernel

__all__ = [
    "DTYPES",
    "KERNELS",
    "accumulate",
    "add",
    "combine",
    "difference",
    "kernel",
    "load",
    "scale_row",
    "store",
    "turn",
]

DTYPES = (DType.I32, DType.F32)
"""The element types that the kernels exist for."""

Array = NDArray[Any]

_ROW = "m[row:row + 1]"


@phase(defines="loaded")
def load(x: Array) -> Array:
    """The operand, kept in registers."""
    return x


@phase(writes="y")
def store(loaded: Array) -> Array:
    """What was kept, written out."""
    return loaded


@phase(writes="y")
def add(b: Array, loaded: Array) -> Array:
    """The sum."""
    return loaded + b


@phase(writes="y")
def accumulate(y: Array, loaded: Array) -> Array:
    """Twice what was there (half of it in floating point), and the operand."""
    return 2 * y + loaded if y.dtype.kind == "i" else y * np.float32(0.5) + loaded


@phase(writes="y")
def turn(y: Array) -> Array:
    """An affine map, with neighbours exchanged: twice the turn is not the identity."""
    return 3 * y[::-1] + 1 if y.dtype.kind == "i" else y[::-1] * np.float32(-0.75) + np.float32(1)


@phase(defines="combined")
def combine(b: Array, loaded: Array) -> Array:
    """An asymmetric combination."""
    return 5 * loaded - 3 * b if loaded.dtype.kind == "i" else loaded * np.float32(0.5) - b * np.float32(0.25)


@phase(writes="z")
def difference(loaded: Array, combined: Array) -> Array:
    """The combination less the first operand."""
    return combined - loaded


@phase(reads=_ROW, writes=_ROW)
def scale_row(m: Array, loaded: Array) -> Array:
    """The new value of a row, which a scalar chooses."""
    return 3 * m + loaded if m.dtype.kind == "i" else m * np.float32(0.5) + loaded


_LOAD_A = replace(phase_of(load), reads="a")
_STORE_COMBINED = replace(phase_of(store), uses="combined")

_SIGNATURES: Mapping[str, tuple[str, tuple[Piece, ...]]] = {
    "copy": ("x: T[n], y: T[n]", (load, store)),
    "add": ("a: T[n], b: T[n], y: T[n]", (_LOAD_A, add)),
    "accumulate": ("x: T[n], y: T[n]", (load, accumulate)),
    "turn": ("y: T[n]", (turn,)),
    # Two stores, which become visible one by one.
    "spread": ("a: T[n], b: T[n], y: T[n], z: T[n]", (_LOAD_A, combine, _STORE_COMBINED, difference)),
    "scale_row": ("x: T[n], m: T[rows, n], row: scalar i32", (load, scale_row)),
}


def _declared(name: str, dtype: DType) -> Kernel:
    parameters, body = _SIGNATURES[name]
    return cuda_kernel("builtin", parameters.replace("T[", f"{dtype}["), *body, name=f"{name}_{dtype}")


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {f"{name}_{dtype}": _declared(name, dtype) for name in _SIGNATURES for dtype in DTYPES}
)
"""All kernels by name: ``copy``, ``add``, ``accumulate``, ``turn``, ``spread``, ``scale_row``, each with a type."""


def kernel(name: str, dtype: DType = DType.F32) -> Kernel:
    """The kernel of that name for a type.

    Example:
        >>> kernel("add", DType.I32).name
        'add_i32'
    """
    return KERNELS[f"{name}_{dtype}"]
