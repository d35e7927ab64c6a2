"""Host nodes: Python functions, and kernels that run on the host, which the driver calls from a thread of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConstantArgument, HostCallbackNode, KernelNode
from forerun.ir.parameters import node_with_values
from forerun.ir.region import BufferView
from forerun.ir.types import BufferRole
from forerun.runtime.cuda.driver.driver import host_node
from forerun.runtime.cuda.driver.errors import ADVICE, NOT_PERMITTED
from forerun.runtime.dtypes import array_at, bytes_at
from forerun.runtime.native import native_call
from forerun.runtime.reference.bind import bind_node
from forerun.runtime.reference.functions import failure, host_call, selected
from forerun.runtime.reference.memory import BufferMemory
from forerun.runtime.reference.serial import SerialReplay
from forerun.support.diagnostics import ForerunError, InvalidInput

__all__ = ["HostCalls"]

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


Locate: TypeAlias = Callable[[str], tuple[Buffer, int]]
"""A buffer by its name, and its address in the host's memory."""


class HostCalls:
    """The functions of a graph's host nodes. They must live as long as the graph.

    An exception must not run into the driver, so the first one is kept for :meth:`raise_failure`; the calls after it
    are left out until then. What such calls would have written for their own step is set to zeros, and not left as it
    was: kernels of the device that come after them read it, and a row number must lie in its table.

    Attributes:
        failed: Words to set when a call raises, if somebody asks for them.
        times: When each call began and ended the last time, by the path of its node, in nanoseconds of
            :func:`time.perf_counter_ns`; ``None`` if nobody asks.
    """

    def __init__(self) -> None:
        self.failed: NDArray[np.uint32] | None = None
        self.times: dict[str, tuple[int, int]] | None = None
        self._functions: list[Any] = []
        self._named: list[_NamedReplay] = []
        self._failure: ForerunError | None = None

    def address_of(self, call: Callable[[], None], path: str) -> int:
        """The address of a C function that makes a call of :meth:`call` or :meth:`kernel`, for the node of a path."""
        run = self.without_cuda(call, path)
        made = _HostFunction(lambda _: run())
        self._functions.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0

    def without_cuda(self, call: Callable[[], None], path: str) -> Callable[[], None]:
        """A call, for the node of a path, in which calls of the driver are refused."""

        def run() -> None:
            with host_node(path):
                call()

        return run

    def call(self, node: HostCallbackNode, place: str, locate: Locate) -> Callable[[], None]:
        """What a node does.

        ``locate`` gives a buffer by its name, and its address in the host's memory; ``place`` is for messages.

        Raises:
            InvalidInput: If the function cannot be found, or cannot take what the node reads.
        """
        made = host_call(node, place, lambda view, write: _elements(view, locate, write))
        spoiled = [view for view in node.writes if locate(view.buffer)[0].role in _WITHIN_A_STEP]
        return self._guarded(made, place, [_elements(view, locate, True) for view in spoiled])

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
        written = [buffers[name].array for name in _written(graph, node) if graph.buffers[name].role in _WITHIN_A_STEP]
        if native is not None:
            return self._unless_failed(native, written)
        replay = _NamedReplay(graph, node, buffers, place)
        if any(isinstance(argument, ConstantArgument) and argument.name for _, argument in node.arguments):
            self._named.append(replay)
        return self._guarded(replay, place, written)

    def assignment(self, values: Mapping[str, int | float]) -> Callable[[], None] | None:
        """What gives named constants of kernels other values, while nothing is in flight; ``None`` if none uses them.

        Raises:
            InvalidInput: If a kernel cannot have a value.
        """
        made = [(replay, changed) for replay in self._named if (changed := replay.changed(values)) is not None]

        def assign() -> None:
            for replay, (node, run) in made:
                replay.node, replay.run = node, run

        return assign if made else None

    def timed(self, path: str, call: Callable[[], None]) -> Callable[[], None]:
        """The call, which notes its times if somebody asks for times already."""
        times = self.times
        if times is None:
            return call

        def run() -> None:
            began = perf_counter_ns()
            call()
            times[path] = began, perf_counter_ns()

        return run

    @property
    def has_failed(self) -> bool:
        """Whether a call has raised since :meth:`raise_failure` was asked the last time."""
        return self._failure is not None

    def _guarded(self, call: Callable[[], None], place: str, written: Sequence[NDArray[Any]]) -> Callable[[], None]:
        """A call that does nothing after a failure, and keeps its own; ``written`` is zero then."""

        def run() -> None:
            try:
                call()
            except ForerunError as error:
                self._fail(error)
            except BaseException as error:  # whatever the caller's function raises
                told = failure(place, error)
                if "not permitted" in str(error).lower():  # cudaErrorNotPermitted, as torch and CuPy tell it
                    told = InvalidInput(told.message, hint=": ".join(ADVICE[NOT_PERMITTED]))
                told.__cause__ = error
                self._fail(told)
            if self._failure is not None:
                _clear(written)

        return self._unless_failed(run, written)

    def _unless_failed(self, call: Callable[[], None], written: Sequence[NDArray[Any]]) -> Callable[[], None]:
        def run() -> None:
            if self._failure is None:
                call()
            else:
                _clear(written)

        return run

    def _fail(self, error: ForerunError) -> None:
        self._failure = error
        if self.failed is not None:
            self.failed.fill(1)

    def raise_failure(self) -> None:
        """Raise what a call raised since this was asked the last time. Nothing may be in flight."""
        failure, self._failure = self._failure, None
        if self.failed is not None:
            self.failed.fill(0)
        if failure is not None:
            raise failure


_WITHIN_A_STEP = (BufferRole.TEMP, BufferRole.OUTPUT)


def _written(graph: Graph, node: KernelNode) -> list[str]:
    """The buffers that the phases of a node's kernel write."""
    parameters = {access.parameter for phase in graph.kernels[node.kernel].phases for access in phase.writes}
    return [a.buffer for name, a in node.arguments if name in parameters and not isinstance(a, ConstantArgument)]


def _clear(arrays: Sequence[NDArray[Any]]) -> None:
    for array in arrays:
        array.fill(0)


def _memory_at(buffer: Buffer, address: int) -> BufferMemory:
    array = array_at(buffer, address)
    readable = array.view()
    readable.flags.writeable = False
    return BufferMemory(buffer, bytes_at(address, buffer.size), array, readable, buffer.role is BufferRole.WEIGHT)


class _NamedReplay:
    """A kernel on the host, by its phases' NumPy functions, whose named constants may change."""

    def __init__(self, graph: Graph, node: KernelNode, buffers: Mapping[str, BufferMemory], place: str) -> None:
        self._given = graph, buffers, place
        self.node, self.run = node, self._bound(node)

    def __call__(self) -> None:
        self.run()

    def _bound(self, node: KernelNode) -> SerialReplay:
        graph, buffers, place = self._given
        return SerialReplay(bind_node(graph, node, buffers, place), 1)

    def changed(self, values: Mapping[str, int | float]) -> tuple[KernelNode, SerialReplay] | None:
        """The node with other values, and what runs it; ``None`` if it uses none of them."""
        node = node_with_values(self.node, values)
        assert isinstance(node, KernelNode)
        return None if node is self.node else (node, self._bound(node))


def _elements(view: BufferView, locate: Locate, write: bool) -> NDArray[Any]:
    array = array_at(*locate(view.buffer))
    array.flags.writeable = write
    return selected(array, view)
