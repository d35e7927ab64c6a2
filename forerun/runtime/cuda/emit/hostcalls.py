"""Host nodes: Python functions, and kernels that run on the host, which the driver calls from a thread of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConstantArgument, HostCallbackNode, KernelNode
from forerun.ir.region import BufferView
from forerun.ir.types import BufferRole
from forerun.runtime.dtypes import array_at, bytes_at
from forerun.runtime.native import native_call
from forerun.runtime.reference.bind import bind_node
from forerun.runtime.reference.functions import failure, host_call, selected
from forerun.runtime.reference.memory import BufferMemory
from forerun.runtime.reference.serial import SerialReplay
from forerun.support.diagnostics import ForerunError

__all__ = ["HostCalls"]

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


Locate: TypeAlias = Callable[[str], tuple[Buffer, int]]
"""A buffer by its name, and its address in the host's memory."""


class HostCalls:
    """The functions of a graph's host nodes. They must live as long as the graph.

    An exception must not run into the driver, so the first one is kept for :meth:`raise_failure`; the calls after it
    are left out until then.
    """

    def __init__(self) -> None:
        self._functions: list[Any] = []
        self._failure: ForerunError | None = None

    def address_of(self, call: Callable[[], None]) -> int:
        """The address of a C function that makes a call of :meth:`call` or :meth:`kernel`."""
        made = _HostFunction(lambda _: call())
        self._functions.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0

    def call(self, node: HostCallbackNode, place: str, locate: Locate) -> Callable[[], None]:
        """What a node does.

        ``locate`` gives a buffer by its name, and its address in the host's memory; ``place`` is for messages.

        Raises:
            InvalidInput: If the function cannot be found, or cannot take what the node reads.
        """
        return self._guarded(host_call(node, place, lambda view, write: _elements(view, locate, write)), place)

    def kernel(self, graph: Graph, node: KernelNode, place: str, locate: Locate) -> Callable[[], None]:
        """What a kernel does on the host, by machine code or its phases' NumPy functions; as for :meth:`call`.

        ``graph`` has the tables that the node names.

        Raises:
            InvalidInput: If a function cannot be found, or cannot take what its phase gives it.
            Unsupported: If a phase has no function.
        """
        named = [a.buffer for _, a in node.arguments if not isinstance(a, ConstantArgument)]
        indexed = [index for name in named if (index := graph.buffers[name].index_buffer)]
        buffers = {name: _memory_at(*locate(name)) for name in (*named, *indexed)}
        native = native_call(graph, node, {name: locate(name)[1] for name in named})
        if native is not None:
            return self._guarded(native, place)
        return self._guarded(SerialReplay(bind_node(graph, node, buffers, place), 1), place)

    @property
    def has_failed(self) -> bool:
        """Whether a call has raised since :meth:`raise_failure` was asked the last time."""
        return self._failure is not None

    def _guarded(self, call: Callable[[], None], place: str) -> Callable[[], None]:
        def run() -> None:
            if self._failure is not None:
                return
            try:
                call()
            except ForerunError as error:
                self._failure = error
            except BaseException as error:  # whatever the caller's function raises
                self._failure = failure(place, error)
                self._failure.__cause__ = error

        return run

    def raise_failure(self) -> None:
        """Raise what a call raised since this was asked the last time."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _memory_at(buffer: Buffer, address: int) -> BufferMemory:
    array = array_at(buffer, address)
    readable = array.view()
    readable.flags.writeable = False
    return BufferMemory(buffer, bytes_at(address, buffer.size), array, readable, buffer.role is BufferRole.WEIGHT)


def _elements(view: BufferView, locate: Locate, write: bool) -> NDArray[Any]:
    array = array_at(*locate(view.buffer))
    array.flags.writeable = write
    return selected(array, view)
