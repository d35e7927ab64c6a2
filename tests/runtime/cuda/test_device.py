"""What is told before any work starts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from forerun.ir.graph import Graph
from forerun.runtime.base import Target, resolve_target
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.driver.device import open_device, resolve_arch
from forerun.runtime.cuda.driver.driver import Driver, use_driver
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import R
from tests.runtime.cuda.graphs import case
from tests.runtime.cuda.support import load, on_fake, twice


class NoDriver(FakeCuda):
    def cuInit(self, flags: int) -> Any:  # noqa: N802
        raise RuntimeError("Failed to dlopen libcuda.so.1. And more\nand more")


class Refuses(FakeCuda):
    def cuInit(self, flags: int) -> Any:  # noqa: N802
        return (R.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,)


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (NoDriver(), r"no GPU: no CUDA driver \(Failed to dlopen libcuda.so.1\)\nhint: run it on the CPU with tar"),
        (Refuses(), r"no GPU: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(in the fake driver's words\)\nhint: run it"),
        (FakeCuda(devices=0), "no GPU: the driver sees no device\nhint: run it"),
        (FakeCuda(version=12090), r"driver is of CUDA 12\.9; forerun's kernels need 13\.0 or later\nhint: install a"),
        (FakeCuda(capability=(7, 0)), "device 0, Fake GPU, is sm_70; the toolchain compiles for sm_75 and later"),
    ],
)
def test_no_usable_gpu(api: FakeCuda, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_fake(monkeypatch, api) as driver:
        with pytest.raises(Unsupported, match=expected):
            load(twice())
        assert (api.leaks(), driver.handles.live()) == ({}, ())


def test_there_is_no_such_device() -> None:
    with pytest.raises(InvalidInput, match="there is no device 2\nhint: this process sees devices 0 to 1"):
        open_device(Driver(FakeCuda(devices=2)), 2)


@pytest.mark.parametrize("name", ["programmatic", "twice"])
def test_old_architectures_have_no_programmatic_launch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_fake(monkeypatch, FakeCuda(capability=(8, 6))):
        if name == "twice":
            load(case(name).graph).close()
            return
        expected = "is sm_86; programmatic dependencies, waits and triggers need sm_90 or later\nhint: compile with"
        with pytest.raises(Unsupported, match=expected):
            load(case(name).graph)


def test_architectures() -> None:
    device = open_device(Driver(FakeCuda(capability=(9, 0))), 0)
    assert [resolve_arch(device, arch) for arch in ("", "sm_90", "sm_90a")] == ["sm_90", "sm_90", "sm_90a"]
    for arch, expected in (
        ("sm_100", r"code for sm_100 does not run on device 0, Fake GPU \(sm_90\)\nhint: leave the option"),
        ("sm_80", "code for sm_80 does not run"),
        ("compute_90", "'compute_90' is not an architecture\nhint: such as sm_90"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            resolve_arch(device, arch)
    newer = open_device(Driver(FakeCuda(capability=(12, 1))), 0)
    assert [resolve_arch(newer, arch) for arch in ("", "sm_120")] == ["sm_121", "sm_120"]


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forerun.runtime.cuda.driver.driver._current", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(Unsupported, match=r"bindings are not installed.*\nhint: pip install 'cuda-python>=13,<14'"):
        CudaTarget().load(twice(), {})


def test_options() -> None:
    target = resolve_target("cuda{device=1,delays=4}")
    assert target == CudaTarget(device=1, delays=4)
    assert isinstance(target, Target)
    assert CudaTarget(progress=print) == CudaTarget()
    for wrong in ({"delays": -1}, {"device": "0"}, {"arch": 90}):
        with pytest.raises(InvalidInput, match="target 'cuda': option"):
            CudaTarget(**wrong)  # type: ignore[arg-type]


def test_the_graph_is_checked_before_the_gpu_is_asked() -> None:
    api = FakeCuda()
    with use_driver(Driver(api)), pytest.raises(InvalidInput, match="not valid"):
        CudaTarget().load(_broken(), {})
    assert api.log == []


def _broken() -> Graph:
    graph = twice()
    return Graph("broken", graph.allocations.values(), (), graph.kernels.values(), graph.nodes.values())


def test_importing_touches_no_driver() -> None:
    code = "import sys, forerun.runtime.cuda; assert not any(n.startswith('cuda') for n in sys.modules), 'imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
