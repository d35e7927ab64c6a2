"""Small kernels for random programs and tests, on i32 and f32, so that a graph's file replays with nothing else.

Every kernel has phases like real ones: what reads operands defines locals, what combines them stores. None of the
functions commutes with another by chance, so that a wrong order shows: i32 wraps around, f32 stays bounded.

In CUDA they work element by element, in any launch: parameters may be bound to one buffer, but not to buffers that
overlap in part, if one of them is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Implementation, Kernel, Parameter, Phase, Role, ScalarParameter
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.region import region
from forerun.ir.types import DType

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

_CUDA = (Implementation("cuda", "forerun.kernels.cuda:builtin.cu", "builtin"),)

_ROW = region(("row", affine("row") + 1))


def _phase(name: str, **parts: Any) -> Phase:
    return Phase(name, reference=f"{__name__}:{name}", **parts)


def _load(parameter: str) -> Phase:
    return _phase("load", reads=(Access(parameter),), defines=("loaded",))


def _vectors(dtype: DType, *names: str) -> tuple[Parameter, ...]:
    return tuple(BufferParameter(name, dtype, ("n",)) for name in names)


def _copy(dtype: DType) -> Kernel:
    body = (_load("x"), _phase("store", uses=("loaded",), writes=(Access("y"),)))
    return Kernel(f"copy_{dtype}", _vectors(dtype, "x", "y"), (Role("all", body),), _CUDA, ANY_LAUNCH)


def _add(dtype: DType) -> Kernel:
    body = (
        _load("a"),
        _phase("add", reads=(Access("b"),), uses=("loaded",), writes=(Access("y"),)),
    )
    return Kernel(f"add_{dtype}", _vectors(dtype, "a", "b", "y"), (Role("all", body),), _CUDA, ANY_LAUNCH)


def _accumulate(dtype: DType) -> Kernel:
    body = (
        _load("x"),
        _phase("accumulate", reads=(Access("y"),), uses=("loaded",), writes=(Access("y"),)),
    )
    return Kernel(f"accumulate_{dtype}", _vectors(dtype, "x", "y"), (Role("all", body),), _CUDA, ANY_LAUNCH)


def _turn(dtype: DType) -> Kernel:
    body = (_phase("turn", reads=(Access("y"),), writes=(Access("y"),)),)
    return Kernel(f"turn_{dtype}", _vectors(dtype, "y"), (Role("all", body),), _CUDA, ANY_LAUNCH)


def _spread(dtype: DType) -> Kernel:
    """Reads two buffers, writes one, and another as well: two stores, which become visible one by one."""
    body = (
        _load("a"),
        _phase("combine", reads=(Access("b"),), uses=("loaded",), defines=("combined",)),
        _phase("store", uses=("combined",), writes=(Access("y"),)),
        _phase("difference", uses=("loaded", "combined"), writes=(Access("z"),)),
    )
    return Kernel(f"spread_{dtype}", _vectors(dtype, "a", "b", "y", "z"), (Role("all", body),), _CUDA, ANY_LAUNCH)


def _scale_row(dtype: DType) -> Kernel:
    """Updates one row of a matrix; which one, a scalar says."""
    body = (
        _load("x"),
        _phase("scale_row", reads=(Access("m", _ROW),), uses=("loaded",), writes=(Access("m", _ROW),)),
    )
    parameters = (
        BufferParameter("x", dtype, ("n",)),
        BufferParameter("m", dtype, ("rows", "n")),
        ScalarParameter("row", DType.I32),
    )
    return Kernel(f"scale_row_{dtype}", parameters, (Role("all", body),), _CUDA, ANY_LAUNCH)


def load(x: Array) -> Array:
    """The operand, kept in registers."""
    return x


def store(value: Array) -> Array:
    """What was kept, written out."""
    return value


def add(b: Array, a: Array) -> Array:
    """The sum."""
    return a + b


def accumulate(y: Array, x: Array) -> Array:
    """Twice what was there (half of it in floating point), and the operand."""
    return 2 * y + x if y.dtype.kind == "i" else y * np.float32(0.5) + x


def turn(y: Array) -> Array:
    """An affine map, with neighbours exchanged: twice the turn is not the identity."""
    return 3 * y[::-1] + 1 if y.dtype.kind == "i" else y[::-1] * np.float32(-0.75) + np.float32(1)


def combine(b: Array, a: Array) -> Array:
    """An asymmetric combination."""
    return 5 * a - 3 * b if a.dtype.kind == "i" else a * np.float32(0.5) - b * np.float32(0.25)


def difference(a: Array, combined: Array) -> Array:
    """Of the combination and the first operand."""
    return combined - a


def scale_row(m: Array, x: Array) -> Array:
    """The row's new value."""
    return 3 * m + x if m.dtype.kind == "i" else m * np.float32(0.5) + x


_DECLARATIONS = {
    "copy": _copy,
    "add": _add,
    "accumulate": _accumulate,
    "turn": _turn,
    "spread": _spread,
    "scale_row": _scale_row,
}

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {f"{name}_{dtype}": declare(dtype) for name, declare in _DECLARATIONS.items() for dtype in DTYPES}
)
"""All kernels by name: ``copy``, ``add``, ``accumulate``, ``turn``, ``spread``, ``scale_row``, each with a type."""


def kernel(name: str, dtype: DType = DType.F32) -> Kernel:
    """The kernel of that name for a type.

    Example:
        >>> kernel("add", DType.I32).name
        'add_i32'
    """
    return KERNELS[f"{name}_{dtype}"]
