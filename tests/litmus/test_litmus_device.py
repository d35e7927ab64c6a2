"""What is asked of the GPU and its driver, with substitutes for both."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forerun.runtime.cuda.driver.driver import Driver, use_driver
from forerun.runtime.litmus import TESTS, Counts, device, machine, measure
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import Unsupported

CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\nGCC version: 12.2.0\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (x@y)\n"


class Api(SimpleNamespace):
    """A driver with one GPU, which notes the calls."""

    def __init__(self):
        super().__init__(calls=[], version=13000)
        self.CUdevice_attribute = SimpleNamespace(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor"
        )

    def __getattr__(self, name):
        answers = {
            "cuInit": (),
            "cuDeviceGetCount": (1,),
            "cuDriverGetVersion": (self.version,),
            "cuDeviceGet": (0,),
            "cuDeviceGetName": (b"Test GPU\0\0",),
            "cuCtxSynchronize": (),
        }

        def call(*arguments):
            self.calls.append(name)
            if name == "cuDeviceGetAttribute":
                return 0, {"major": 9, "minor": 0}[arguments[0]]
            return 0, *answers[name]

        return call


@pytest.fixture
def api():
    substitute = Api()
    with use_driver(Driver(substitute)):
        yield substitute


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "580.95.05"), (OPEN, "575.57.08"), ("?", "of CUDA 13.0")])
def test_the_machine(api, monkeypatch, tmp_path, text, version):
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(machine, "_KERNEL_MODULE", tmp_path / "version")
    assert machine.this_machine() == machine.Machine("Test GPU", version, "9.0")


def test_a_machine_that_does_not_tell_its_driver(api, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_KERNEL_MODULE", tmp_path / "none")
    api.version = 13010
    assert machine.this_machine().driver == "of CUDA 13.1"


def test_a_driver_that_is_too_old(api):
    api.version = 12040
    with pytest.raises(Unsupported, match="CUDA 12"):
        machine.this_machine()


def test_programs_settle_before_they_are_read(api, monkeypatch):
    """Nodes of a graph that is not drained may outlive the launch: the whole context is waited for."""
    monkeypatch.setattr("forerun.runtime.cuda.target.CudaTarget", lambda device: ReferenceTarget())
    bench = device.GpuRunner()
    api.calls.clear()
    assert measure(TESTS["L5"], bench, 3) == Counts(3)
    assert api.calls == ["cuCtxSynchronize"] * 4
