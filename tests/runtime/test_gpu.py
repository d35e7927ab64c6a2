"""The question for GPUs, asked of drivers that are made up."""

from __future__ import annotations

import enum
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from forerun.runtime.gpu import Gpu, no_gpu_reason, probe_gpus


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_DEVICE = 100


class Attribute(enum.IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 9
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 0
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 132


def make_driver(count=1, init=lambda flags: (Result.CUDA_SUCCESS,)):
    ok = Result.CUDA_SUCCESS
    return SimpleNamespace(
        CUresult=Result,
        CUdevice_attribute=Attribute,
        cuInit=init,
        cuDeviceGetCount=lambda: (ok, count),
        cuDeviceGet=lambda number: (ok, number),
        cuDeviceGetName=lambda size, device: (ok, b"Test GPU\0\0"),
        cuDeviceTotalMem=lambda device: (ok, 1 << 30),
        cuDeviceGetAttribute=lambda attribute, device: (ok, int(attribute)),
        cuGetErrorString=lambda error: (ok, b"in words"),
    )


@pytest.fixture
def installed(monkeypatch):
    """Puts a driver in the place of the real one."""

    def install(driver):
        monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(__path__=[]))
        monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver, __path__=[]))

    return install


def test_a_gpu_is_described(installed):
    installed(make_driver(count=2))
    gpus, reason = probe_gpus()
    assert gpus == [Gpu("Test GPU", "9.0", 1 << 30, 132)] * 2
    assert reason is None


def test_no_driver_library(installed):
    def fail(flags):
        raise RuntimeError("Failed to dlopen libcuda.so.1\nand more")

    installed(make_driver(init=fail))
    assert no_gpu_reason() == "no CUDA driver (Failed to dlopen libcuda.so.1)"


def test_a_driver_that_refuses(installed):
    installed(make_driver(init=lambda flags: (Result.CUDA_ERROR_NO_DEVICE,)))
    assert no_gpu_reason() == "cuInit: CUDA_ERROR_NO_DEVICE"


def test_no_device(installed):
    installed(make_driver(count=0))
    assert no_gpu_reason() == "the driver sees no device"


def test_no_bindings(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert no_gpu_reason().startswith("cuda-bindings is not installed")


def test_tests_for_gpus_are_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    conftest = Path(__file__).parents[1] / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tmp_path / "test_it.py").write_text("import pytest\n\n@pytest.mark.gpu\ndef test_it():\n    assert False\n")
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 skipped" in done.stdout
    assert "no GPU: " in done.stdout
