"""A program's buffers, for other libraries to use in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.types import BufferRole
from forerun.runtime.constants import HeldConstant
from forerun.runtime.cuda.memory import dlpack
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.dtypes import array_at, describe, numpy_dtype
from forerun.runtime.values import input_array, state_array
from forerun.support.diagnostics import InvalidInput

__all__ = ["DeviceArray"]

_LEGACY_STREAM = 1


class DeviceArray:
    """The memory of a buffer. torch, CuPy and others take it with ``from_dlpack`` or ``asarray``, without a copy.

    The memory lives as long as this object and what was made of it, even after the program is closed. The protocols
    order work: what takes the array waits for what the program did on its own stream. After launches on other streams,
    order is the caller's business.

    Attributes:
        name: The buffer.
        dtype: NumPy's element type.
        shape: Extents.
        address: Of the first element.
    """

    def __init__(
        self, resources: Resources, buffer: Buffer, address: int, *, on_host: bool, constant: HeldConstant | None = None
    ) -> None:
        self._resources = resources
        self._buffer = buffer
        self._on_host = on_host
        self._constant = constant  # kept, so that its memory stays
        self.name = buffer.name
        self.dtype: np.dtype[Any] = numpy_dtype(buffer.dtype)
        self.shape = buffer.shape
        self.address = address
        resources.lease(self)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self._buffer.size

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol. It has no name for bf16; DLPack has."""
        if self._on_host or self.dtype.kind == "V" or str(self.dtype) == "bfloat16":
            raise AttributeError(f"%{self.name} ({self}) cannot be described by __cuda_array_interface__; use DLPack")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": int(self._resources.stream),
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        if self._on_host:
            return dlpack.CUDA_HOST, 0
        return dlpack.CUDA, self._resources.context.device.index

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule; see the Python specification of DLPack. ``stream`` waits for what the program did so far."""
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"%{self.name} is on device {self.__dlpack_device__()}, not {dl_device}")
        if copy:
            raise BufferError(f"%{self.name} is shared, not copied")
        resources, driver = self._resources, self._resources.driver
        with resources.context.current():
            if self._on_host:
                resources.synchronize()
            elif stream != -1:
                waiting = _LEGACY_STREAM if stream is None else int(stream)
                driver.call("cuEventRecord", resources.event, resources.stream)
                driver.call("cuStreamWaitEvent", waiting, resources.event, 0)
        resources.begin_lease()
        return dlpack.give(self.address, self.dtype, self.shape, self.__dlpack_device__(), self._end_lease)

    def _end_lease(self) -> None:
        """What a capsule calls; bound to the array, and with it to the constant that it may be."""
        self._resources.end_lease()

    def numpy(self) -> NDArray[Any]:
        """A copy on the host, after all that was launched."""
        resources = self._resources
        with resources.context.current():
            resources.synchronize()
            if self._on_host:
                return array_at(self._buffer, self.address).copy()
            result = np.empty(self.shape, self.dtype)
            resources.driver.call("cuMemcpyDtoH", result.ctypes.data, self.address, self.nbytes)
        return result

    def assign(self, values: ArrayLike) -> None:
        """Copy values from the host into an input or state buffer, after all that was launched.

        Raises:
            InvalidInput: If they do not fit, or the buffer is of another role.
        """
        role = self._buffer.role
        if role not in (BufferRole.STATE, BufferRole.INPUT, BufferRole.PARAM):
            raise InvalidInput(f"%{self.name} is {role}", hint="only inputs and state can be written")
        convert = state_array if role is BufferRole.STATE else input_array
        array = np.ascontiguousarray(convert(self._buffer, values))
        resources = self._resources
        with resources.context.current():
            resources.synchronize()
            if self._on_host:
                array_at(self._buffer, self.address)[...] = array
                return
            resources.driver.call("cuMemcpyHtoD", self.address, array.ctypes.data, self.nbytes)

    def __str__(self) -> str:
        return describe(self.dtype, self.shape)

    def __repr__(self) -> str:
        place = "host" if self._on_host else f"device {self._resources.context.device.index}"
        return f"<DeviceArray %{self.name} {self} on {place} at {self.address:#x}>"
