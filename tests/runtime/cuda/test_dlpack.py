"""Tensors through DLPack's capsules, in both directions. NumPy takes and gives those in the host's memory."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from forerun.ir.types import DType
from forerun.runtime.cuda.memory import dlpack
from forerun.runtime.cuda.memory.external import is_device_array, read_array
from forerun.runtime.dtypes import numpy_dtype
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import W, X, i32, load, on_fake, rich


class Ours:
    """Something with a capsule of ours, in the host's memory."""

    def __init__(self, values: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.values = values
        self.device = device
        self.released = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **ignored: Any) -> Any:
        values = self.values
        return dlpack.give(values.ctypes.data, values.dtype, values.shape, self.device, self.release)

    def release(self) -> None:
        self.released += 1


def test_numpy_takes_ours() -> None:
    ours = Ours(np.arange(12, dtype=np.float32).reshape(3, 4))
    taken = np.from_dlpack(ours)
    np.testing.assert_array_equal(taken, ours.values)
    assert taken.ctypes.data == ours.values.ctypes.data
    assert ours.released == 0
    view = taken[1:]
    del taken
    assert ours.released == 0
    del view
    assert ours.released == 1


def test_a_capsule_that_nobody_took_releases_too() -> None:
    ours = Ours(np.zeros(3, np.int32))
    capsule = ours.__dlpack__()
    assert ours.released == 0
    del capsule
    assert ours.released == 1
    assert dlpack._given == {}


@pytest.mark.parametrize("dtype", DType)
def test_every_type_there_and_back(dtype: DType) -> None:
    values = np.arange(6).astype(numpy_dtype(dtype)).reshape(2, 3)
    ours = Ours(values, (dlpack.CUDA, 3))
    tensor = dlpack.take(ours.__dlpack__())
    assert (tensor.dtype, tensor.shape, tensor.device) == (values.dtype, (2, 3), 3)
    assert (tensor.address, tensor.contiguous) == (values.ctypes.data, True)
    assert ours.released == 0
    del tensor
    assert ours.released == 1


def test_the_code_of_bf16() -> None:
    code = dlpack._code(np.dtype(ml_dtypes.bfloat16))
    assert (code.code, code.bits, code.lanes) == (4, 16, 1)


def test_numpy_gives() -> None:
    values = np.arange(12, dtype=np.int16).reshape(3, 4)
    tensor = dlpack.take(values.__dlpack__())
    assert (tensor.address, tensor.shape, tensor.contiguous) == (values.ctypes.data, (3, 4), True)
    assert not dlpack.take(values.T.__dlpack__()).contiguous
    assert not dlpack.take(values[:, ::2].__dlpack__()).contiguous
    assert dlpack.take(values[1:2, :].__dlpack__()).contiguous
    scalar = dlpack.take(np.array(3.0).__dlpack__())
    assert (scalar.shape, scalar.dtype, scalar.contiguous) == ((), np.dtype(np.float64), True)
    assert dlpack.take(np.zeros(2, np.complex64).__dlpack__()).dtype is None


def test_a_capsule_is_taken_once() -> None:
    capsule = Ours(i32(1, 2)).__dlpack__()
    kept = dlpack.take(capsule)
    for wrong in (capsule, object()):
        with pytest.raises(ValueError, match="still unused"):
            dlpack.take(wrong)
    assert kept.shape == (2,)


def test_who_is_on_a_gpu() -> None:
    assert not is_device_array(i32(1))
    assert not is_device_array([1, 2])
    assert is_device_array(Ours(i32(1), (2, 0)))
    assert not is_device_array(Ours(i32(1), (1, 0)))


def test_an_owner_that_refuses() -> None:
    from forerun.support.diagnostics import InvalidInput

    class Refuses(Ours):
        def __dlpack__(self, **ignored: Any) -> Any:
            raise BufferError("Can't export tensors that require gradient")

    with pytest.raises(InvalidInput, match=r"w: its owner does not share it: Can't export.*\nhint: detach it"):
        read_array("w", Refuses(i32(1), (2, 0)), 5)


def test_arrays_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake(monkeypatch, api):
        program = load(rich(), W)
        program.run({"x": X})
        pinned = np.from_dlpack(program.buffer("there"))
        np.testing.assert_array_equal(pinned, -(X + 100))
        device = program.buffer("y")
        assert device.__dlpack_device__() == (2, 0)
        calls = len(api.log)
        tensor = dlpack.take(device.__dlpack__(stream=2, max_version=(1, 0)))
        assert {"cuEventRecord", "cuStreamWaitEvent"} <= set(api.log[calls:])
        assert (tensor.address, tensor.shape) == (device.address, (8,))
        for wrong in ({"dl_device": (1, 0)}, {"copy": True}):
            with pytest.raises(BufferError, match="%y is"):
                device.__dlpack__(**wrong)
        described = device.__cuda_array_interface__
        assert (described["typestr"], described["data"], described["version"]) == ("<i4", (device.address, False), 3)
        assert described["stream"] in api.streams
        assert not hasattr(program.buffer("there"), "__cuda_array_interface__")
        assert repr(device) == f"<DeviceArray %y i32[8] on device 0 at {device.address:#x}>"
        program.close()
        del tensor, device, described
        gc.collect()
        assert "memory" in api.leaks(), "the pinned array lives"
        np.testing.assert_array_equal(pinned, -(X + 100))
        del pinned
        assert api.leaks() == {}


def test_the_end_of_the_process_with_tensors_alive() -> None:
    code = (
        "import numpy as np; from tests.runtime.cuda.test_dlpack import Ours; "
        "kept = np.from_dlpack(Ours(np.zeros(3))); import builtins; builtins.kept = kept"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_structures_have_the_sizes_of_dlpack_h() -> None:
    assert ctypes.sizeof(dlpack._Tensor) == 48
    assert ctypes.sizeof(dlpack._ManagedTensor) == 64
