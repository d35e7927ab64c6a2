"""What device-updatable kernel nodes cost: a graph of 100 small kernels that kernels may update, and one without.

- ``replay_*_us``: a replay of each of the two, in blocks in turn (A B B A), and their ratio.
- ``set_each_us``, ``set_all_us``: a kernel that gives each of the 100 nodes another number, by
  ``cudaGraphKernelNodeSetParam`` from a thread each, or by one ``cudaGraphKernelNodeUpdatesApply``; with its launch.
- ``set_by_host_us``: the same by the host, ``cuGraphExecKernelNodeSetParams`` for each node of the other graph.
- ``instantiate_*_us``, ``upload_us``: what is done once; such a graph must be uploaded, and is instantiated only once.

Results are checked before anything is timed, and after each kind of update. Run from the repository's root, on a GPU;
it takes some seconds: ``python -m benchmarks.device_updatable``. With ``--compile`` its code is compiled and linked,
and nothing else is done.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Metric, bootstrap_median, write_result
from forerun.runtime.cuda.driver.device import Context, open_device
from forerun.runtime.cuda.driver.driver import Driver, driver
from forerun.runtime.cuda.driver.scope import Scope, seconds_between_events
from forerun.runtime.toolchain.locate import find_toolchain

NODES, THREADS = 100, 32
_SOURCE = Path(__file__).with_suffix(".cu")
_MASK = 0xFFFFFFFF
_NON_BLOCKING = 1


def _written(size_of: Callable[[Any], Any], write: Callable[[Any, bytes], Any], program: Any) -> bytes:
    """What NVRTC writes into a bytes object. One of length 0 or 1 would be Python's only one, and change everywhere."""
    size = size_of(program)[1]
    found = b" " * (size + 2)
    write(program, found)
    return found[:size]


def code(arch: str) -> bytes:
    """The kernels, linked with the device runtime: NVRTC makes relocatable code, and nvlink the cubin."""
    from cuda.bindings import nvrtc

    text, tools = _SOURCE.read_bytes(), find_toolchain()
    assert tools.ptxas is not None, "needs nvlink, which comes with ptxas"
    options = [f"--gpu-architecture={arch}", "--relocatable-device-code=true", "-std=c++17"]
    options += [f"--include-path={folder}" for folder in tools.include]
    _, program = nvrtc.nvrtcCreateProgram(text, _SOURCE.name.encode(), 0, [], [])
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [one.encode() for one in options])
    assert not int(error), _written(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode()
    made = _written(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    library = next(path for one in tools.include for path in one.parent.glob("lib*/libcudadevrt.a"))
    with tempfile.TemporaryDirectory() as folder:
        unit, linked = Path(folder, "unit.cubin"), Path(folder, "linked.cubin")
        unit.write_bytes(made)
        nvlink = tools.ptxas.path.with_name("nvlink")
        subprocess.run([nvlink, f"-arch={arch}", unit, library, "-o", linked], check=True, capture_output=True)
        return linked.read_bytes()


class Kernels:
    """The functions, and parameters for them."""

    def __init__(self, own: Driver, scope: Scope, arch: str) -> None:
        self.driver, self.scope = own, scope
        module = scope.own("module", own.call("cuModuleLoadData", code(arch)), "cuModuleUnload")
        self.add, self.set_each, self.set_all = (
            own.call("cuModuleGetFunction", module, name) for name in (b"add", b"set_each", b"set_all")
        )

    def memory(self, size: int) -> int:
        return int(self.scope.own("memory", self.driver.call("cuMemAlloc", size), "cuMemFree"))

    def params(self, y: int, number: int) -> tuple[Any, list[Any]]:
        """The parameters of a node, and what they point to."""
        values = [ctypes.c_uint64(y), ctypes.c_uint32(number)]
        table = (ctypes.c_void_p * 2)(*map(ctypes.addressof, values))
        params = self.driver.api.CUDA_KERNEL_NODE_PARAMS()
        params.func, params.kernelParams = self.add, ctypes.addressof(table)
        params.gridDimX = params.gridDimY = params.gridDimZ = 1
        params.blockDimX, params.blockDimY, params.blockDimZ = THREADS, 1, 1
        return params, [*values, table]


class Chain:
    """A graph of a chain of kernels, instantiated; ``places`` are its nodes' handles on the device, if it has them."""

    def __init__(self, kernels: Kernels, *, updatable: bool) -> None:
        self.kernels, self.driver = kernels, kernels.driver
        own, api, scope = self.driver, self.driver.api, kernels.scope
        self.y = kernels.memory(4 * THREADS)
        self.graph = scope.own("graph", own.call("cuGraphCreate", 0), "cuGraphDestroy")
        self.nodes: list[Any] = []
        self.places: list[int] = []
        kind = api.CUkernelNodeAttrID.CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE
        for number in range(NODES):
            params, _kept = kernels.params(self.y, number)
            before = self.nodes[-1:]
            node = own.call("cuGraphAddKernelNode", self.graph, before, len(before), params)
            if updatable:
                value = api.CUkernelNodeAttrValue()
                value.deviceUpdatableKernelNode.deviceUpdatable = 1
                own.call("cuGraphKernelNodeSetAttribute", node, kind, value)
                found = own.call("cuGraphKernelNodeGetAttribute", node, kind).deviceUpdatableKernelNode
                self.places.append(int(found.devNode) or int(value.deviceUpdatableKernelNode.devNode))
            self.nodes.append(node)
        assert all(self.places), "the driver gives no handles for the device"
        began = time.perf_counter()
        executable = own.call("cuGraphInstantiate", self.graph, 0)
        self.instantiate_us = 1e6 * (time.perf_counter() - began)
        self.executable = scope.own("executable", executable, "cuGraphExecDestroy")

    def check(self, stream: Any, first: int, told: str) -> None:
        """Replay it once, and compare what it leaves with what numbers from the first on leave."""
        own = self.driver
        own.call("cuMemsetD32Async", self.y, 1, THREADS, stream)
        own.call("cuGraphLaunch", self.executable, stream)
        own.call("cuStreamSynchronize", stream)
        found = (ctypes.c_uint32 * THREADS)()
        own.call("cuMemcpyDtoH", ctypes.addressof(found), self.y, 4 * THREADS)
        expected = 1
        for number in range(NODES):
            expected = (expected * 3 + first + number) & _MASK
        assert list(found) == [expected] * THREADS, f"{told}: {found[0]} where {expected} is right"


class Bench:
    """Both graphs, and what is timed of them."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels, self.driver = kernels, kernels.driver
        own = self.driver
        self.stream = kernels.scope.own("stream", own.call("cuStreamCreate", _NON_BLOCKING), "cuStreamDestroy")
        self.plain, self.updatable = (Chain(kernels, updatable=is_updatable) for is_updatable in (False, True))
        began = time.perf_counter()
        own.call("cuGraphUpload", self.updatable.executable, self.stream)
        own.call("cuStreamSynchronize", self.stream)
        self.upload_us = 1e6 * (time.perf_counter() - began)
        handles = (ctypes.c_uint64 * NODES)(*self.updatable.places)
        self.places, self.refused = kernels.memory(8 * NODES), kernels.memory(4)
        own.call("cuMemcpyHtoD", self.places, ctypes.addressof(handles), 8 * NODES)
        own.call("cuMemsetD32", self.refused, 0, 1)

    def seconds(self, work: Callable[[], None], count: int) -> float:
        """Seconds of the device for each of some repeats."""

        def repeat() -> None:
            for _ in range(count):
                work()

        return seconds_between_events(self.driver, self.stream, repeat) / count

    def replay(self, chain: Chain) -> None:
        self.driver.call("cuGraphLaunch", chain.executable, self.stream)

    def set_on_device(self, function: Any, first: int) -> None:
        """Let a kernel give the nodes numbers from the first on."""
        values = [
            ctypes.c_uint64(self.places),
            ctypes.c_uint32(NODES),
            ctypes.c_uint32(first),
            ctypes.c_uint64(self.refused),
        ]
        table = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        launch = (1, 1, 1, 128, 1, 1, 0, self.stream, ctypes.addressof(table), 0)
        self.driver.call("cuLaunchKernel", function, *launch)

    def set_by_host(self, first: int) -> None:
        for number, node in enumerate(self.plain.nodes):
            params, _kept = self.kernels.params(self.plain.y, first + number)
            self.driver.call("cuGraphExecKernelNodeSetParams", self.plain.executable, node, params)

    def check(self) -> None:
        """All that is timed does what it is to do."""
        for chain, told in ((self.plain, "plain graph"), (self.updatable, "updatable graph")):
            chain.check(self.stream, 0, told)
        for function, first in ((self.kernels.set_each, 1000), (self.kernels.set_all, 2000)):
            self.set_on_device(function, first)
            self.driver.call("cuStreamSynchronize", self.stream)
            count = ctypes.c_uint32()
            self.driver.call("cuMemcpyDtoH", ctypes.addressof(count), self.refused, 4)
            assert not count.value, f"{count.value} updates were refused"
            self.updatable.check(self.stream, first, f"after an update to {first}")
        self.set_by_host(3000)
        self.plain.check(self.stream, 3000, "after the host's update")


def measured(bench: Bench, rounds: int) -> dict[str, Metric]:
    """All metrics; the two graphs are replayed in turn."""

    def replays(chain: Chain) -> Callable[[], float]:
        return lambda: bench.seconds(lambda: bench.replay(chain), 50)

    plain, updatable = replays(bench.plain), replays(bench.updatable)
    for warm in (plain, updatable):
        warm()
    times: dict[str, list[float]] = {"replay_plain": [], "replay_updatable": []}
    for _ in range(rounds):
        for name, work in zip((*times, *reversed(times)), (plain, updatable, updatable, plain), strict=True):
            times[name].append(work())
    for name, function in (("set_each", bench.kernels.set_each), ("set_all", bench.kernels.set_all)):
        times[name] = [bench.seconds(lambda f=function: bench.set_on_device(f, 7), 10) for _ in range(rounds)]  # type: ignore[misc]
    times["set_by_host"] = [_host_seconds(lambda: bench.set_by_host(7)) for _ in range(rounds)]
    found = {f"device_updatable.{name}_us": _median(values) for name, values in times.items()}
    ratio = [b / a for a, b in zip(times["replay_plain"], times["replay_updatable"], strict=True)]
    found["device_updatable.replay_ratio"] = bootstrap_median(ratio, "x")
    once = {"instantiate_plain": bench.plain.instantiate_us, "instantiate_updatable": bench.updatable.instantiate_us}
    for name, value in {**once, "upload": bench.upload_us}.items():
        found[f"device_updatable.{name}_us"] = Metric(value, "us", value, value)
    return found


def _host_seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _median(seconds: Sequence[float]) -> Metric:
    return bootstrap_median([1e6 * one for one in seconds], "us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="compile and link its kernels for sm_90, and stop")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    if arguments.compile:
        print(f"{len(code('sm_90'))} bytes")
        return
    own = driver()
    context = Context(own, open_device(own, 0))
    context.set_current()
    device = own.call("cuCtxGetDevice")
    major, minor = (own.attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    scope = Scope(own)
    try:
        bench = Bench(Kernels(own, scope, f"sm_{major}{minor}"))
        bench.check()
        print("results are right; timing", flush=True)
        write_result("device_updatable", measured(bench, arguments.rounds))
    finally:
        scope.release()


if __name__ == "__main__":
    main()
