"""Arrays of other libraries on the GPU: read through DLPack or ``__cuda_array_interface__``, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.ir.buffer import Buffer
from forerun.runtime.cuda.memory import dlpack
from forerun.runtime.cuda.memory.dlpack import ExternalArray
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.dtypes import describe, numpy_dtype
from forerun.support.diagnostics import InvalidInput

__all__ = ["ALIGNMENT", "ExternalArray", "bind_array", "is_device_array", "read_array"]

ALIGNMENT = 16
"""Kernels load 16 bytes at once, so that the caller's arrays must begin at multiples of that; or of what kernels
declare that they need, if that is more."""

_DEVICE_KINDS = (dlpack.CUDA, dlpack.CUDA_MANAGED)


def is_device_array(value: Any) -> bool:
    """Whether a value is an array on a GPU, for one of the two protocols."""
    ask = getattr(value, "__dlpack_device__", None)
    if ask is not None:
        return int(ask()[0]) in _DEVICE_KINDS
    return hasattr(value, "__cuda_array_interface__")


def read_array(what: str, value: Any, stream: int) -> ExternalArray:
    """Look at an array of another library.

    Work of the array's owner is finished before what is put on ``stream`` later; ``what`` is for messages.

    Raises:
        InvalidInput: If its owner refuses, or its element type is unknown.
    """
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(what, value, stream)
    return _from_interface(what, value)


def _from_dlpack(what: str, value: Any, stream: int) -> ExternalArray:
    try:
        array = dlpack.take(value.__dlpack__(stream=stream))
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{what}: its owner does not share it: {error}", hint="detach it, or pass a copy") from error
    if array.dtype is None:
        raise InvalidInput(f"{what}: an element type that forerun does not know")
    return array


def _from_interface(what: str, value: Any) -> ExternalArray:
    try:
        described = value.__cuda_array_interface__
        dtype = np.dtype(described["typestr"])
        shape = tuple(int(extent) for extent in described["shape"])
        strides = described.get("strides")
        address, read_only = described["data"]
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise InvalidInput(f"{what}: __cuda_array_interface__ cannot be read: {error}") from error
    dense = dlpack.dense_strides(shape)
    contiguous = strides is None or tuple(strides) == tuple(step * dtype.itemsize for step in dense)
    return ExternalArray(int(address), dtype, shape, contiguous, None, value, not read_only, described.get("stream"))


def bind_array(what: str, buffer: Buffer, value: Any, resources: Resources, align: int = ALIGNMENT) -> ExternalArray:
    """An array of the caller's that can stand for a buffer; its owner's work is finished before what comes next.

    Kernels need its address to be a multiple of ``align`` bytes, if that is more than :data:`ALIGNMENT`.

    Raises:
        InvalidInput: If its type, shape, layout, place or alignment does not fit.
        CudaError: If the work of its owner failed.
    """
    if not is_device_array(value):
        given = type(value).__name__
        raise InvalidInput(
            f"{what}: {given} is not an array on a GPU", hint="it needs __dlpack__ or __cuda_array_interface__"
        )
    array = read_array(what, value, int(resources.stream))
    wanted = numpy_dtype(buffer.dtype)
    if array.dtype != wanted or array.shape != buffer.shape:
        expected, given = describe(wanted, buffer.shape), describe(array.dtype, array.shape)
        raise InvalidInput(f"{what}: expected {expected}, given {given}")
    if not array.contiguous:
        raise InvalidInput(f"{what}: the array is not dense and row-major", hint="pass array.contiguous()")
    device = resources.context.device.index
    if array.device not in (None, device):
        raise InvalidInput(f"{what}: the array is on device {array.device}, the program on device {device}")
    align = max(align, ALIGNMENT)
    if array.address % align:
        message = f"{what}: the array begins at {array.address:#x}, not at a multiple of {align} bytes"
        raise InvalidInput(message, hint="pass an array of its own, not a slice of another")
    if array.stream is not None:
        resources.driver.call("cuStreamSynchronize", array.stream)
    return array
