"""Memory that is put back, and compared on the GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from forerun.captured import MemoryRange
from forerun.runtime.cuda.capture import snapshot
from forerun.runtime.cuda.capture.snapshot import Differences, Snapshot
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.toolchain import Source, compile_unit, missing_toolchain

MISSING = missing_toolchain()


@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("arch", ["sm_90", "sm_100"])
def test_the_kernel_that_compares(arch: str) -> None:
    text = Path(snapshot.__file__).with_name("differences.cu").read_text(encoding="utf-8")
    cubin = compile_unit(Source("differences.cu", text), arch)
    assert cubin.log == ""
    assert cubin.entries["count_differences"].registers > 0


@pytest.mark.gpu
def test_differences_are_counted() -> None:
    own = driver()
    own.call("cuInit", 0)
    device = own.call("cuDeviceGet", 0)
    own.call("cuCtxSetCurrent", own.primary_context(device))
    scope = Scope(own)
    size = 1_000_003
    try:
        stream = scope.own("stream", own.call("cuStreamCreate", 1), "cuStreamDestroy")
        address = int(scope.own("memory", own.call("cuMemAlloc", size), "cuMemFree"))
        own.call("cuMemsetD8Async", address, 7, size, stream)
        # The second piece begins at an odd address.
        pieces = [MemoryRange(address, 65536), MemoryRange(address + 65537, size - 65537)]
        taken = Snapshot(pieces, scope, stream)
        compare = Differences(scope, stream)
        assert compare.of(taken) == {}
        data = (ctypes.c_uint8 * 3)(1, 7, 2)
        for at in (0, 30_000, 65_536, 65_537, size - 3):
            own.call("cuMemcpyHtoD", address + at, ctypes.addressof(data), 3)
        # Bytes that did not change do not count; nor does the one between the pieces.
        assert compare.of(taken) == {pieces[0]: 4, pieces[1]: 4}
        taken.put_back()
        assert compare.of(taken) == {}
    finally:
        assert scope.release() is None
