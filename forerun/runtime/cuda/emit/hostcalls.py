"""Host nodes: Python functions that the driver calls from a thread of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.nodes import HostCallbackNode
from forerun.ir.region import BufferView
from forerun.runtime.cuda.memory.host_arrays import array_at
from forerun.runtime.reference.functions import check_arity, checked, find_function, results_of
from forerun.support.diagnostics import ForerunError, InvalidInput

__all__ = ["HostCalls"]

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class HostCalls:
    """The functions of a graph's host nodes. They must live as long as the graph.

    An exception must not run into the driver, so the first one is kept for :meth:`raise_failure`; the calls after it
    are left out until then.
    """

    def __init__(self) -> None:
        self._functions: list[Any] = []
        self._failure: ForerunError | None = None

    def bind(self, node: HostCallbackNode, place: str, locate: Callable[[str], tuple[Buffer, int]]) -> int:
        """The address of a C function that does what a node says.

        Args:
            node: What to call.
            place: For messages.
            locate: A buffer by name, and its address in the host's memory.

        Raises:
            InvalidInput: If the function cannot be found, or cannot take what the node reads.
        """
        call = _bound(node, f"{place}, function '{node.function}'", locate)

        def run(_: int | None) -> None:
            if self._failure is not None:
                return
            try:
                call()
            except ForerunError as error:
                self._failure = error
            except BaseException as error:  # whatever the caller's function raises
                self._failure = InvalidInput(f"{place}: raised {type(error).__name__}: {error}")
                self._failure.__cause__ = error

        made = _HostFunction(run)
        self._functions.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0

    def raise_failure(self) -> None:
        """Raise what a call raised since this was asked the last time."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _bound(node: HostCallbackNode, place: str, locate: Callable[[str], tuple[Buffer, int]]) -> Callable[[], None]:
    function = find_function(node.function, place)
    check_arity(function, len(node.reads), place)
    reads = [_elements(view, locate, write=False) for view in node.reads]
    writes = [(view.buffer, _elements(view, locate, write=True)) for view in node.writes]
    # What is returned may be a view of what was read: the first write must not spoil the second.
    aliased = len(writes) > 1 and any(np.may_share_memory(r, w) for r in reads for _, w in writes)

    def call() -> None:
        returned = function(*([array.copy() for array in reads] if aliased else reads))
        for (buffer, target), value in zip(writes, results_of(place, len(writes), returned), strict=True):
            target[...] = checked(place, buffer, target, value)

    return call


def _elements(view: BufferView, locate: Callable[[str], tuple[Buffer, int]], *, write: bool) -> NDArray[Any]:
    array = array_at(*locate(view.buffer))
    array.flags.writeable = write
    index = tuple(slice(None) if s is None else slice(s.start.constant, s.stop.constant) for s in view.region.slices)
    result: NDArray[Any] = array[index]
    return result
