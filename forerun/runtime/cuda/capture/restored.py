"""``forerun.restore()``: a captured graph from its folder, in memory at its old addresses, or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from forerun.captured import CapturedGraph, load_capture
from forerun.captured.graph import AssembledText, digest_of
from forerun.captured.moved import moved_capture
from forerun.runtime.cuda.capture.attributes import INSTANTIATION_FLAGS
from forerun.runtime.cuda.capture.reading import Handles
from forerun.runtime.cuda.capture.recreated import GraphMaker, obstacles
from forerun.runtime.cuda.capture.reserved import ReservedMemory
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.capture.texts import FoundText
from forerun.runtime.cuda.driver.device import Context, open_device
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.driver.streams import current_stream, stream_handle
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["RestoredCapture", "restore"]

_SHOWN = 4


class _Source:
    """What stands for the program's graph. It has no handle any more once it is closed."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def raw_cuda_graph(self) -> int:
        if self.handle is None:
            raise RuntimeError("closed")
        return int(self.handle)


@dataclass(frozen=True)
class RestoredCapture(LiveCapture):
    """A captured graph that runs again. Made by :func:`restore`; :func:`forerun.optimize` takes it, too.

    Attributes:
        memory: Its memory, by the addresses that it was captured with.
        executable: The driver's handle.
    """

    memory: ReservedMemory
    executable: Any
    scope: Scope = field(repr=False)

    def replay(self, stream: Any = None) -> None:
        """Launch it.

        Args:
            stream: As :meth:`Clone.replay <forerun.runtime.cuda.capture.clone.Clone.replay>` takes it.

        Raises:
            InvalidInput: If it is closed.
            CudaError: If the driver fails.
        """
        self._require_open()
        chosen = current_stream() if stream is None else stream_handle(stream)
        self.driver.call("cuGraphLaunch", self.executable, chosen)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into its memory, after all work on the device; the address is the captured one.

        What was there when it was captured is not saved; all begins as zeros.

        Raises:
            InvalidInput: If it is closed, or they do not lie in its memory.
            CudaError: If the driver fails.
        """
        self._require_open()
        self.driver.call("cuCtxSynchronize")
        self.memory.write(address, bytes(data))

    def read(self, address: int, size: int) -> bytes:
        """Bytes of its memory, after all work on the device; the address is the captured one.

        Raises:
            InvalidInput: If it is closed, or they do not lie in its memory.
            CudaError: If the driver fails.
        """
        self._require_open()
        self.driver.call("cuCtxSynchronize")
        return self.memory.read(address, size)

    def close(self) -> None:
        """Give everything back, after all work on the device. Closing twice is fine.

        Raises:
            CudaError: If the driver does not take something back.
        """
        if self.source.handle is None:
            return
        self.source.handle = None
        self.driver.call("cuCtxSynchronize")
        error = self.scope.release()
        if error is not None:
            raise error

    def _require_open(self) -> None:
        if self.source.handle is None:
            raise InvalidInput("the captured graph is closed", hint="restore it again")

    def __enter__(self) -> RestoredCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def restore(captured: CapturedGraph | str | Path, device: int = 0, *, elsewhere: bool = False) -> RestoredCapture:
    """Make a captured graph run on this GPU, where it was not captured in this process.

    Its memory is put to the addresses that it had, filled with zeros; its images are loaded, and its nodes made again
    with their parameters, attributes and edges. That runs machine code that the folder holds: restore what you trust.
    What pointers in memory point to, and what variables of its modules held, is not known. The device's primary context
    stays current on this thread.

    Args:
        captured: The folder of a captured graph, or what :func:`forerun.captured.load_capture` made of it.
        device: The number of the GPU.
        elsewhere: Whether its memory may lie at other addresses. Then all that points there in parameters is changed,
            and :attr:`RestoredCapture.graph` has the new ones. ``read`` and ``write`` take the old ones. A pointer that
            :meth:`CapturedNode.pointers` does not find, in memory or in parts, points nowhere.

    Example::

        with forerun.restore("capture") as live:
            live.write(address, data)
            live.replay()
            result = live.read(address, size)

    Raises:
        InvalidInput: If the folder is broken.
        Unsupported: If there is no GPU, an address cannot be had, or a node cannot be made again.
        CudaError: If the driver fails.
    """
    graph = captured if isinstance(captured, CapturedGraph) else load_capture(captured)
    # What copies read from the host lay in another process.
    graph = replace(graph.with_functions(graph.functions), host_sources={})
    reasons = list(obstacles(graph))
    if reasons:
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise Unsupported(f"the captured graph cannot run again: {'; '.join(reasons[:_SHOWN])}{more}")
    graph.launch_order()  # before anything is done on a GPU
    own = driver()
    context = Context(own, open_device(own, device))
    context.set_current()
    scope = Scope(own)
    try:
        memory = ReservedMemory(scope, graph.memory, context.device.index, elsewhere=elsewhere)
        graph = moved_capture(graph, memory.spans, memory.places)
        maker = GraphMaker(scope, graph, int(context.handle))
        handle, nodes = maker.make(graph)
        executable = own.call("cuGraphInstantiate", handle, INSTANTIATION_FLAGS)
        scope.own("executable", executable, "cuGraphExecDestroy")
        known, assemblers = _with_verified_texts(graph)
    except BaseException:
        scope.release()
        raise
    # Captured nodes tell all of what was made of them.
    handles = Handles(handle, nodes, maker.functions, [None] * len(nodes))
    return RestoredCapture(known, handles, _Source(handle), assemblers, own, None, memory, executable, scope)


def _with_verified_texts(graph: CapturedGraph) -> tuple[CapturedGraph, Mapping[str, tuple[str, str]]]:
    """The graph with the texts that an assembler here makes the same code of, and these assemblers."""
    from forerun.runtime.cuda.capture.verified import verified_texts  # needs the toolchain

    given = {one.image: graph.texts[one.text] for one in graph.functions if one.image and one.text}
    given = {image: text for image, text in given.items() if _names_no_file(text)}
    found = verified_texts({image: FoundText(t, "", _architecture(t.text)) for image, t in given.items()}, graph.images)
    texts: dict[str, AssembledText] = {}
    assemblers: dict[str, tuple[str, str]] = {}
    for image, one in found.items():
        digest = digest_of(one.text.text)
        texts[digest] = replace(given[image], options=one.text.options)
        assemblers[digest] = one.assembler, one.architecture
    functions = tuple(one if one.image in found else replace(one, text="") for one in graph.functions)
    lost = len({one.image for one in graph.functions if one.image and one.text} - found.keys())
    more = (f"PTX of {lost} images assembles to other code here; their kernels keep their code",) if lost else ()
    return replace(graph.with_functions(functions), texts=texts, remarks=(*graph.remarks, *more)), assemblers


def _names_no_file(text: AssembledText) -> bool:
    """Whether no option for the assembler is a path: a folder must not choose which files are written."""
    return not any(set(option) & set("/\\") for option in text.options)


def _architecture(text: str) -> str:
    """What a text is for: ``sm_90a``."""
    line = next((line for line in text.splitlines() if line.startswith(".target")), "")
    return next(iter(line.removeprefix(".target").replace(",", " ").split()), "sm_90")
