"""What the bindings accept, as far as that shows without a driver, and the layout of what is written past them."""

from __future__ import annotations

from typing import Any

import pytest
from cuda.bindings import driver as real

from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.gpu import no_gpu_reason
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import LOOP_WEIGHTS, W, X, i32, load, loop, on_fake, rich


class Both:
    """Calls a fake driver, and the real bindings with the same arguments: these must get as far as to miss a driver."""

    def __init__(self, api: FakeCuda) -> None:
        self._api = api
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)
        if not name.startswith("cu"):
            return found

        def call(*arguments: Any) -> Any:
            if name not in self.asked:
                self.asked.add(name)
                with pytest.raises(RuntimeError):  # in whatever words
                    getattr(real, name)(*arguments)
            return found(*arguments)

        return call


def test_the_bindings_take_what_we_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = no_gpu_reason()
    if reason is None or not reason.startswith("no CUDA driver"):
        pytest.skip("there is a driver, which handles that are made up would crash")
    api = FakeCuda()
    both = Both(api)
    with on_fake(monkeypatch, both) as driver:
        with_everything = load(rich(), W, delays=1)
        with_everything.run({"x": X})
        with_everything.launch(2)
        with_everything.synchronize()
        with_everything.buffer("y").__dlpack__()
        with_everything.write("total", X)
        with_everything.read("total")
        with_everything.close()
        with_loop = load(loop(), LOOP_WEIGHTS)
        with_loop.run({"start": i32(*[2] * 8)})
        with_loop.close()
        driver.release_contexts()
    assert len(both.asked) >= 39


def read_back(fields: bytes) -> Any:
    """The bindings' view of what was written past them."""
    made = nodeparams.NodeParams(real)
    made.view[:] = fields
    return made.params


def test_kernel() -> None:
    params = read_back(nodeparams.kernel(0xF00, (1, 2, 3), (4, 5, 6), 7, 0xBEEF))
    kernel = params.kernel
    assert int(params.type) == real.CUgraphNodeType.CU_GRAPH_NODE_TYPE_KERNEL
    assert int(kernel.func) == 0xF00
    assert (kernel.gridDimX, kernel.gridDimY, kernel.gridDimZ) == (1, 2, 3)
    assert (kernel.blockDimX, kernel.blockDimY, kernel.blockDimZ) == (4, 5, 6)
    assert (kernel.sharedMemBytes, int(kernel.kernelParams), int(kernel.kern), int(kernel.ctx)) == (7, 0xBEEF, 0, 0)
    assert nodeparams.kernel(0, (0, 0, 0), (0, 0, 0), 0, 1)[nodeparams.KERNEL_PARAMETERS_AT] == 1


def test_copy() -> None:
    params = read_back(nodeparams.copy((0x1000, -32), (0x2000, 64), 16, 3, 0xC0))
    assert int(params.type) == real.CUgraphNodeType.CU_GRAPH_NODE_TYPE_MEMCPY
    copy = params.memcpy.copyParams
    assert (params.memcpy.flags, int(params.memcpy.copyCtx)) == (0, 0xC0)
    host, device = real.CUmemorytype.CU_MEMORYTYPE_HOST, real.CUmemorytype.CU_MEMORYTYPE_DEVICE
    assert (copy.srcMemoryType, int(copy.srcHost), int(copy.srcDevice)) == (host, 0x1000, 0)
    assert (copy.dstMemoryType, int(copy.dstHost), int(copy.dstDevice)) == (device, 0, 0x2000)
    assert (copy.srcPitch, copy.dstPitch, copy.WidthInBytes, copy.Height, copy.Depth) == (32, 64, 16, 3, 1)
    assert (copy.srcXInBytes, copy.srcY, copy.srcZ, copy.dstXInBytes, copy.dstY, copy.dstZ) == (0,) * 6


def test_fill() -> None:
    params = read_back(nodeparams.fill(0x3000, 7, 4, 10, 2, 64, 0xC0))
    fill = params.memset
    assert int(params.type) == real.CUgraphNodeType.CU_GRAPH_NODE_TYPE_MEMSET
    assert (int(fill.dst), fill.value, fill.elementSize, fill.width, fill.height) == (0x3000, 7, 4, 10, 2)
    assert (fill.pitch, int(fill.ctx)) == (64, 0xC0)


def test_host_child_empty_and_conditional() -> None:
    host = read_back(nodeparams.host(0xF, 0xA))
    assert (int(host.type), int(host.host.fn), int(host.host.userData)) == (3, 0xF, 0xA)
    child = read_back(nodeparams.child(0x77))
    assert (int(child.type), int(child.graph.graph)) == (4, 0x77)
    assert int(read_back(nodeparams.empty()).type) == 5
    made = read_back(nodeparams.conditional(9, 1, 2, 0xC0))
    assert (int(made.type), int(made.conditional.handle), int(made.conditional.type)) == (13, 9, 1)
    assert (made.conditional.size, int(made.conditional.ctx)) == (2, 0xC0)
    assert nodeparams.NodeParams(real).word(nodeparams.BODIES_AT) == 0
