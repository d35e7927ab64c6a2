"""DLPack in ctypes: tensors go out and come in as capsules, without a copy.

Source: dlpack.h of DLPack 1.0 (``DLManagedTensor``), and "Python Specification for DLPack": a capsule is named
``dltensor`` until its consumer renames it to ``used_dltensor``; who has the tensor then calls its deleter once.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forerun.ir.types import DType
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["CUDA", "CUDA_HOST", "CUDA_MANAGED", "ExternalArray", "dense_strides", "give", "take"]

CUDA, CUDA_HOST, CUDA_MANAGED = 2, 3, 13
"""Kinds of devices: ``kDLCUDA``, ``kDLCUDAHost`` (pinned memory) and ``kDLCUDAManaged``."""

_INT, _UINT, _FLOAT, _BFLOAT = 0, 1, 2, 4
_NAME, _USED_NAME = b"dltensor", b"used_dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Private prototypes: those of ctypes.pythonapi are shared by the whole process.
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))


@dataclass(frozen=True, slots=True, eq=False)
class ExternalArray:
    """Memory on the GPU that someone else owns.

    Attributes:
        address: Of the first element.
        dtype: Element type; ``None`` if NumPy has none like it.
        shape: Extents.
        contiguous: Whether it is dense and row-major.
        device: The device's number; ``None`` if the protocol does not tell.
        owner: Keeps the memory alive as long as it lives.
        writable: Whether its owner lets others write it.
        stream: The stream on which its owner writes it, if there is one to wait for.
    """

    address: int
    dtype: Any
    shape: tuple[int, ...]
    contiguous: bool
    device: int | None
    owner: Any
    writable: bool = True
    stream: int | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


class _Owner:
    """Holds a tensor of a producer: when it dies, the producer's deleter is called."""


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a dense, row-major array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


# Tensors that went out, and what keeps their memory alive, by the address of their ManagedTensor.
_given: dict[int, tuple[Any, ...]] = {}


def _delete(address: int) -> None:
    entry = _given.pop(address, None)
    if entry is not None:
        entry[-1]()


def _destroy_capsule(capsule: int) -> None:
    # A capsule that was consumed has another name; then the tensor is its consumer's.
    if _is_valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


_deleter = _Deleter(_delete)
_destructor = _Destructor(_destroy_capsule)


def give(
    address: int, dtype: np.dtype[Any], shape: tuple[int, ...], device: tuple[int, int], release: Callable[[], None]
) -> Any:
    """A capsule for an array.

    It must be dense and row-major. ``release`` is called once, on any thread, when nobody uses the memory any more.
    """
    shapes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    strides = (ctypes.c_int64 * max(1, len(shape)))(*dense_strides(shape))
    tensor = _Tensor(address, _Device(*device), len(shape), _code(dtype), shapes, strides, 0)
    managed = _ManagedTensor(tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    where = ctypes.addressof(managed)
    _given[where] = (managed, shapes, strides, release)
    return _new(where, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))


def take(capsule: Any) -> ExternalArray:
    """The tensor of a capsule, which is used up by this.

    Raises:
        ValueError: If it is none, or is used up already.
    """
    raw = id(capsule)
    if not _is_valid(raw, _NAME):
        raise ValueError("not a DLPack capsule that is still unused")
    managed = _ManagedTensor.from_address(_pointer(raw, _NAME))
    _set_name(raw, _USED_NAME)
    owner = _Owner()
    if managed.deleter:
        weakref.finalize(owner, _Deleter(managed.deleter), ctypes.addressof(managed)).atexit = False
    tensor = managed.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.dimensions))
    strides = tuple(tensor.strides[i] for i in range(tensor.dimensions)) if tensor.strides else dense_strides(shape)
    contiguous = all(s == d or n == 1 for s, d, n in zip(strides, dense_strides(shape), shape, strict=True))
    address = (tensor.data or 0) + tensor.byte_offset
    return ExternalArray(address, _dtype(tensor.dtype), shape, contiguous, int(tensor.device.number), owner)


def _code(dtype: np.dtype[Any]) -> _DataType:
    codes = {"i": _INT, "u": _UINT, "f": _FLOAT}
    # The bf16 of ml_dtypes has a kind of its own.
    return _DataType(codes.get(dtype.kind, _BFLOAT), 8 * dtype.itemsize, 1)


def _dtype(found: _DataType) -> np.dtype[Any] | None:
    return next((dtype for dtype in map(numpy_dtype, DType) if bytes(_code(dtype)) == bytes(found)), None)
