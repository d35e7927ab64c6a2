"""Every call of the driver is made to fail in turn: the error is told, nothing leaks, and the next run works."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from forerun.runtime.cuda import CudaError
from forerun.runtime.cuda.codegen import build
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import BAD_IMAGE
from forerun.support.diagnostics import ForerunError, Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import R
from tests.runtime.cuda.faults import Faults
from tests.runtime.cuda.support import LOOP_WEIGHTS, W, X, attempt, fake_code, i32, load, loop, on_fake, rich


def exercise_rich() -> None:
    """Everything that a program can do, and its answer checked."""
    program = load(rich(), W, delays=3)
    try:
        np.testing.assert_array_equal(program.run({"x": X})["y"], X + 100)
        program.launch()
        program.synchronize()
        array = program.buffer("y")
        np.testing.assert_array_equal(array.numpy(), 3 * (X + 100))
        capsule = array.__dlpack__()
        program.write("total", X)
        program.reset()
        np.testing.assert_array_equal(program.run({"x": X})["there"], -(X + 100))
        del capsule, array
    finally:
        program.close()


def exercise_loop() -> None:
    with_loop = load(loop(), LOOP_WEIGHTS)
    try:
        left = with_loop.run({"start": i32(3, *[0] * 7)})["left"]
        np.testing.assert_array_equal(left, i32(0, *[-3] * 7))
    finally:
        with_loop.close()


@pytest.mark.parametrize("exercise", [exercise_rich, exercise_loop])
def test_every_call_may_fail(exercise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    faults = Faults(api)
    with on_fake(monkeypatch, faults) as driver:
        exercise()
        calls = list(faults.names)
        silent = []
        for number, name in enumerate(calls, 1):
            driver.release_contexts()
            faults.arm(number)
            error = attempt(exercise)
            assert faults.names[number - 1] == name
            faults.arm(0)
            if error is None:
                silent.append(name)
            else:
                check_told(error, name)
            if api.leaks():
                gc.collect()
            assert (api.leaks(), driver.handles.live()) == ({}, ()), f"call {number}, {name}"
            exercise()
    assert len(calls) > 40
    check_silent(set(silent))


def check_told(error: ForerunError, name: str) -> None:
    assert isinstance(error, CudaError) or (isinstance(error, Unsupported) and name in ("cuInit", "cuDeviceGetCount"))
    assert f"{name}: CUDA_ERROR_OPERATING_SYSTEM (in the fake driver's words)" in str(error)
    if name == "cuGraphAddNode":
        assert isinstance(error, CudaError)
        assert error.node


def check_silent(names: set[str]) -> None:
    """What may fail once without a word: what is tried again, or only tidies up."""
    destroyers = {"cuMemFree", "cuMemFreeHost", "cuModuleUnload", "cuGraphDestroy", "cuGraphExecDestroy"}
    destroyers |= {"cuStreamDestroy", "cuEventDestroy"}
    assert names <= destroyers | {"cuCtxGetCurrent", "cuCtxSetCurrent"}


def test_a_sticky_error_stays() -> None:
    for code in (R.CUDA_ERROR_ILLEGAL_ADDRESS, R.CUDA_ERROR_LAUNCH_FAILED, R.CUDA_ERROR_ASSERT):
        assert CudaError("cuStreamSynchronize", code.name).is_sticky
    assert not CudaError("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY").is_sticky


def test_a_poisoned_program_says_why_and_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake(monkeypatch, api) as driver:
        program = load(rich(), W)

        def crash(*words: int) -> None:
            api.sticky = R.CUDA_ERROR_ILLEGAL_ADDRESS

        api.kernels["add_i32_kernel"] = crash
        with pytest.raises(CudaError, match="CUDA_ERROR_ILLEGAL_ADDRESS") as first:
            program.run({"x": X})
        assert "compute-sanitizer" in first.value.hint
        calls = len(api.log)
        for use in (lambda: program.run({"x": X}), program.launch, program.reset, lambda: program.buffer("y")):
            with pytest.raises(CudaError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS.*happened before") as again:
                use()
            assert again.value.__cause__ is first.value
        assert len(api.log) == calls, "the driver was asked again"
        program.close()
        program.close()
        assert driver.handles.live() == ()


def test_what_a_launch_did_wrong_is_told_at_the_latest_by_close(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    faults = Faults(api, R.CUDA_ERROR_LAUNCH_FAILED)
    with on_fake(monkeypatch, faults) as driver:
        program = load(rich(), W)
        program.launch()
        faults.arm(3)  # after cuCtxGetCurrent and cuEventRecord: cuEventQuery
        with pytest.raises(CudaError, match="cuEventQuery: CUDA_ERROR_LAUNCH_FAILED"):
            program.close()
        assert (api.leaks(), driver.handles.live()) == ({}, ())


@pytest.mark.parametrize("code", sorted(BAD_IMAGE))
def test_an_image_that_the_driver_refuses_is_made_again_once(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache may have an entry that is whole and wrong."""
    api = FakeCuda()
    faults = Faults(api, getattr(R, code))
    asked: list[bool] = []
    with on_fake(monkeypatch, faults) as driver:

        def again(*arguments: Any, fresh: bool, **options: Any) -> Any:
            asked.append(fresh)
            return fake_code(*arguments, **options)

        monkeypatch.setattr(build, "build_code", again)
        load(rich(), W).close()
        at = faults.names.index("cuModuleLoadData") + 1
        driver.release_contexts()
        faults.arm(at)
        program = load(rich(), W)
        np.testing.assert_array_equal(program.run({"x": X})["y"], X + 100)
        program.close()
        assert asked == [False, False, True]
        assert (api.leaks(), driver.handles.live()) == ({}, ())


def test_an_image_that_is_refused_twice_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(FakeCuda):
        def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:  # noqa: N802
            return (R.CUDA_ERROR_INVALID_IMAGE, None)

    with on_fake(monkeypatch, api := Refuses()), pytest.raises(CudaError, match="CUDA_ERROR_INVALID_IMAGE"):
        load(rich(), W)
    assert api.leaks() == {}


def test_a_handle_that_cannot_be_given_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake(monkeypatch, api) as driver:
        program = load(rich(), W)
        (module, *_) = api.modules
        del api.modules[module]
        with pytest.raises(CudaError, match=f"cuModuleUnload: .*module {module:#x} was not given back"):
            program.close()
        assert api.leaks() == {}
        assert [handle.kind for handle in driver.handles.live()] == ["module"]


def test_the_driver_s_own_words_are_optional() -> None:
    class Mute(FakeCuda):
        def cuGetErrorString(self, error: Any) -> Any:  # noqa: N802
            return R.CUDA_ERROR_INVALID_VALUE, None

    error = Driver(Mute()).failure("cuMemAlloc", R.CUDA_ERROR_NOT_READY)
    assert str(error) == "cuMemAlloc: CUDA_ERROR_NOT_READY"
