"""A program that captures copies, then changes or frees their sources; for tests that run it in another process.

    python -m tests.runtime.cuda.capture.copying

It prints, as JSON, what a session knows of each copy, by a name of its source: the bytes, and whether they changed.
"""

from __future__ import annotations

import ctypes
import json
import mmap
from typing import Any

import forerun
from forerun.external.folded_copies import folded_copies
from forerun.frontends.captured import import_capture
from forerun.runtime.cuda.capture.session import CaptureSession
from forerun.runtime.cuda.driver.device import Context, open_device
from forerun.runtime.cuda.driver.driver import Driver, driver
from forerun.runtime.cuda.driver.errors import CudaError

__all__ = ["SIZE", "data_of"]

SIZE = 64
_DIFFERENT = b"\xee" * SIZE
_NAMES = ("kept", "overwritten", "freed", "unified")


def data_of(name: str) -> bytes:
    """What the source of that name holds during the capture."""
    return name.encode().ljust(SIZE, b".")


def main() -> None:
    """Capture, change, read, print."""
    own = driver()
    with forerun.capture() as session:
        context = Context(own, open_device(own, 0))
        context.set_current()
        stream = own.call("cuStreamCreate", 1)  # CU_STREAM_NON_BLOCKING
        found = {
            "pinned": pinned(own, session, stream),
            "pageable": pageable(own, session, stream),
            "by hand": by_hand(own, session, context),
        }
    print(json.dumps(found))


def pinned(own: Driver, session: CaptureSession, stream: Any) -> Any:
    """Copies from memory that the driver gave out: one source stays, one changes, one is freed."""
    sources = {name: int(own.call("cuMemAllocHost", SIZE)) for name in _NAMES}
    for name, source in sources.items():
        ctypes.memmove(source, data_of(name), SIZE)
    targets = {name: own.call("cuMemAlloc", SIZE) for name in sources}
    own.call("cuStreamBeginCapture", stream, own.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
    for name, source in sources.items():
        if name == "unified":
            own.call("cuMemcpyAsync", targets[name], source, SIZE, stream)
        else:
            own.call("cuMemcpyHtoDAsync", targets[name], source, SIZE, stream)
    graph = own.call("cuStreamEndCapture", stream)
    for name in ("overwritten", "unified"):
        ctypes.memmove(sources[name], _DIFFERENT, SIZE)
    own.call("cuMemFreeHost", sources["freed"])
    return told(session, graph, {source: name for name, source in sources.items()})


def pageable(own: Driver, session: CaptureSession, stream: Any) -> Any:
    """A copy from a page that is unmapped; a sentence if the driver captures no such copies."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[:SIZE] = data_of("unmapped")
    view = ctypes.c_char.from_buffer(page)
    source = ctypes.addressof(view)
    target = own.call("cuMemAlloc", SIZE)
    own.call("cuStreamBeginCapture", stream, own.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
    try:
        own.call("cuMemcpyHtoDAsync", target, source, SIZE, stream)
    except CudaError as error:
        own.function("cuStreamEndCapture")(stream)
        return f"not captured: {error}"
    graph = own.call("cuStreamEndCapture", stream)
    del view
    page.close()
    return told(session, graph, {source: "unmapped"})


def by_hand(own: Driver, session: CaptureSession, context: Context) -> Any:
    """A node that is added to a graph, and whose source changes."""
    source, target = int(own.call("cuMemAllocHost", SIZE)), own.call("cuMemAlloc", SIZE)
    ctypes.memmove(source, data_of("added"), SIZE)
    kinds = own.api.CUmemorytype
    params = own.api.CUDA_MEMCPY3D()
    params.srcMemoryType, params.srcHost = kinds.CU_MEMORYTYPE_HOST, source
    params.dstMemoryType, params.dstDevice = kinds.CU_MEMORYTYPE_DEVICE, target
    params.WidthInBytes, params.Height, params.Depth = SIZE, 1, 1
    graph = own.call("cuGraphCreate", 0)
    own.call("cuGraphAddMemcpyNode", graph, [], 0, params, own.call("cuCtxGetCurrent"))
    ctypes.memmove(source, _DIFFERENT, SIZE)
    return told(session, graph, {source: "added"})


def told(session: CaptureSession, graph: Any, names: dict[int, str]) -> Any:
    """What the session knows of the copies of a graph."""
    captured = session.graph(graph)
    kept = folded_copies(import_capture(captured.graph), captured.host_sources).kept
    found: dict[str, Any] = {}
    for number, source in captured.graph.host_sources.items():
        transfer = captured.graph.nodes[number].transfer
        assert transfer is not None
        name = names[transfer.source or 0]
        found[name] = [source.contents.decode(errors="replace"), source.changed, kept.get(f"n{number}", "")]
    return {"copies": found, "remarks": list(captured.graph.remarks)}


if __name__ == "__main__":
    main()
