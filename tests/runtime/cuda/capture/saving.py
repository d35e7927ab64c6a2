"""A program that captures a graph of two kernels, saves it, and runs it; for tests that run it in another process.

python -m tests.runtime.cuda.capture.saving FOLDER allocated|reserved
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

from forerun.captured import AssembledText, MemoryRange
from forerun.captured.graph import digest_of
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.reserved import ReservedMemory
from forerun.runtime.cuda.capture.session import CaptureSession
from forerun.runtime.cuda.capture.texts import FoundText
from forerun.runtime.cuda.capture.verified import assemble_as
from forerun.runtime.cuda.driver.device import Context, open_device
from forerun.runtime.cuda.driver.driver import Driver, driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.toolchain.locate import find_toolchain
from tests.captured.samples import SCALE, kernel

NAMES = ("w0", "w1", "x", "y", "z")
SIZE = 512
INPUTS = {name: bytes((7 * at + 31 * number) % 251 for at in range(SIZE)) for number, name in enumerate(NAMES[:3])}


def main(folder: Path, kind: str) -> None:
    own = driver()
    context = Context(own, open_device(own, 0))
    context.set_current()
    scope = Scope(own)
    places = _places(own, scope, kind)
    text = kernel("scale", *SCALE)
    ptxas = find_toolchain().ptxas
    assert ptxas is not None
    image, said = assemble_as(text, ("-O3",), str(ptxas.path), "sm_90a")
    assert image, said
    module = own.call("cuModuleLoadData", image)
    function = own.call("cuModuleGetFunction", module, b"scale")
    graph = own.call("cuGraphCreate", 0)
    first = _node(own, graph, [], function, [places[name] for name in ("w0", "x", "y")])
    _node(own, graph, [first], function, [places[name] for name in ("w1", "y", "z")])

    recorder = ImageRecorder()
    recorder.images[digest_of(image)] = image
    recorder.by_module[int(module)] = digest_of(image)
    session = CaptureSession(recorder, NvrtcRecorder(), own, started_late=False)
    found = FoundText(AssembledText(text, ("-O3",), "", "tests"), str(ptxas.path), "sm_90a")
    session._texts = lambda images: {digest_of(image): found}  # type: ignore[method-assign]
    session.graph(graph).save(folder)

    for name, data in INPUTS.items():
        source = ctypes.create_string_buffer(data, SIZE)
        own.call("cuMemcpyHtoD", places[name], ctypes.addressof(source), SIZE)
    executable = own.call("cuGraphInstantiate", graph, 0)
    own.call("cuGraphLaunch", executable, 0)
    own.call("cuCtxSynchronize")
    result = ctypes.create_string_buffer(SIZE)
    own.call("cuMemcpyDtoH", ctypes.addressof(result), places["z"], SIZE)
    Path(folder, "places").write_text(" ".join(str(places[name]) for name in NAMES), encoding="utf-8")
    Path(folder, "z").write_bytes(result.raw)


def _places(own: Driver, scope: Scope, kind: str) -> dict[str, int]:
    if kind == "allocated":
        return {name: int(own.call("cuMemAlloc", SIZE)) for name in NAMES}
    size = 1 << 21
    at = int(own.call("cuMemAddressReserve", size, 0, 0, 0))
    own.call("cuMemAddressFree", at, size)
    ReservedMemory(scope, [MemoryRange(at, size)], 0)
    return {name: at + 4096 * number for number, name in enumerate(NAMES)}


def _node(own: Driver, graph: Any, after: list[Any], function: Any, places: list[int]) -> Any:
    params = own.api.CUDA_KERNEL_NODE_PARAMS()
    params.func = function
    params.gridDimX = params.gridDimY = params.gridDimZ = params.blockDimY = params.blockDimZ = 1
    params.blockDimX = SIZE // 4
    values = [ctypes.c_uint64(place) for place in places]
    table = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    params.kernelParams = ctypes.addressof(table)
    return own.call("cuGraphAddKernelNode", graph, after, len(after), params)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
