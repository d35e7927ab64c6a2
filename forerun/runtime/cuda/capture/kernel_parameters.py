"""Parameters and functions of kernel nodes of clones, and of their executables."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forerun.captured.graph import CapturedNode
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["KernelCall", "set_call", "set_function"]

_LAUNCH = ("gridDimX", "gridDimY", "gridDimZ", "blockDimX", "blockDimY", "blockDimZ", "sharedMemBytes")


class _Table:
    """Parameters as the driver takes them: an array of addresses. It copies the values within the call."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
        self._table = (ctypes.c_void_p * max(len(values), 1))(*map(ctypes.addressof, self._buffers))
        self.address = ctypes.addressof(self._table)


def set_function(driver: Driver, original: Any, node: Any, function: Any, values: Sequence[bytes] = ()) -> None:
    """Let a node of a clone run another function, with the launch of the captured node, and its parameters.

    Args:
        driver: The driver.
        original: The captured node.
        node: The clone's.
        function: What it is to run.
        values: Other parameters than those of the captured node.
    """
    old = driver.call("cuGraphKernelNodeGetParams", original)
    table = _Table(values)
    new = _like(driver, old, function, table.address if values else old.kernelParams)
    driver.call("cuGraphKernelNodeSetParams", node, new)


@dataclass(frozen=True, slots=True)
class KernelCall:
    """What a kernel node of an executable graph launches; its attributes stay those that it was made with.

    Attributes:
        function: The ``CUfunction``.
        node: The captured node, for its grid, its block and its shared memory.
        parameters: The bytes of each parameter.
    """

    function: Any
    node: CapturedNode
    parameters: tuple[bytes, ...]


def set_call(driver: Driver, executable: Any, node: Any, call: KernelCall) -> None:
    """Let a node of the executable graph of a clone launch something else, in launches from now on.

    Raises:
        CudaError: If the driver refuses.
    """
    table = _Table(call.parameters)
    new = driver.api.CUDA_KERNEL_NODE_PARAMS()
    new.func = call.function
    new.kernelParams = table.address
    values = (*call.node.grid, *call.node.block, call.node.shared_bytes)
    for name, value in zip(_LAUNCH, values, strict=True):
        setattr(new, name, value)
    driver.call("cuGraphExecKernelNodeSetParams", executable, node, new)


def _like(driver: Driver, old: Any, function: Any, parameters: Any) -> Any:
    new = driver.api.CUDA_KERNEL_NODE_PARAMS()
    new.func = function
    new.kernelParams = parameters
    for name in _LAUNCH:
        setattr(new, name, getattr(old, name))
    return new
