"""Host nodes: Python functions that the driver calls from a thread of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.nodes import HostCallbackNode
from forerun.ir.region import BufferView
from forerun.runtime.dtypes import array_at
from forerun.runtime.reference.functions import failure, host_call, selected
from forerun.support.diagnostics import ForerunError

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

        ``locate`` gives a buffer by its name, and its address in the host's memory; ``place`` is for messages.

        Raises:
            InvalidInput: If the function cannot be found, or cannot take what the node reads.
        """
        call = host_call(node, place, lambda view, write: _elements(view, locate, write))

        def run(_: int | None) -> None:
            if self._failure is not None:
                return
            try:
                call()
            except ForerunError as error:
                self._failure = error
            except BaseException as error:  # whatever the caller's function raises
                self._failure = failure(place, error)
                self._failure.__cause__ = error

        made = _HostFunction(run)
        self._functions.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0

    def raise_failure(self) -> None:
        """Raise what a call raised since this was asked the last time."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _elements(view: BufferView, locate: Callable[[str], tuple[Buffer, int]], write: bool) -> NDArray[Any]:
    array = array_at(*locate(view.buffer))
    array.flags.writeable = write
    return selected(array, view)
