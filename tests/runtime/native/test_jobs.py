"""Jobs of several calls: each call finds what those before it wrote, and the device is served in any order."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels import add, gemv
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.native import build, native_call
from forerun.runtime.native.jobs import Job, JobServer, job_of

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")

N = 96


def chain() -> Graph:
    """Two products that do not need each other, and two that need both, or one of them."""
    builder = GraphBuilder("chain")
    x = builder.input("x", DType.F32, (N,))
    for name, source in (("a", x), ("b", x), ("c", "a.y"), ("d", "c.y")):
        y = builder.temp(f"{name}.y", DType.F32, (N,))
        w = builder.weight(f"{name}.w", DType.F32, (N, N))
        builder.launch(gemv.KERNEL, w=w, x=source, y=y, node=name, launch=gemv.launch_for(N, N, DType.F32))
    y = builder.output("y", DType.F32, (N,))
    builder.launch(add.KERNEL, a="b.y", b="d.y", y=y, node="end", launch=elementwise_launch(N))
    return PassManager("infer-dependencies").run(builder.build()).graph


def memory(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {b.name: (random.normal(size=b.shape) / 10).astype(numpy_dtype(b.dtype)) for b in graph.buffers.values()}


def job(graph: Graph, arrays: dict[str, np.ndarray], names: str) -> Job:
    found = job_of(graph, list(names), {name: array.ctypes.data for name, array in arrays.items()})
    assert found is not None
    return found


def test_a_job_gives_the_bits_of_its_calls_one_by_one() -> None:
    graph = chain()
    arrays = memory(graph)
    addresses = {name: array.ctypes.data for name, array in arrays.items()}
    for name in "abcd":
        call = native_call(graph, graph.nodes[name], addresses)  # type: ignore[arg-type]
        assert call is not None
        call()
    expected = {name: arrays[f"{name}.y"].copy() for name in "abcd"}
    made = job(graph, arrays, "abcd")
    for _ in range(200):
        for name in "abcd":
            arrays[f"{name}.y"].fill(np.nan)
        begin = time.perf_counter_ns()
        made.run()
        end = time.perf_counter_ns()
        for name in "abcd":
            np.testing.assert_array_equal(arrays[f"{name}.y"], expected[name])
        times = made.times
        assert all(begin <= times[name][0] <= times[name][1] <= end for name in "abcd")
        assert times["a"][1] <= times["c"][0]
        assert times["c"][1] <= times["d"][0]


def test_several_threads_may_run_jobs_and_calls_at_once() -> None:
    graph = chain()
    found: list[bytes] = []

    def work() -> None:
        arrays = memory(graph)
        made = job(graph, arrays, "abcd")
        alone = native_call(graph, graph.nodes["a"], {n: a.ctypes.data for n, a in arrays.items()})  # type: ignore[arg-type]
        assert alone is not None
        for _ in range(100):
            made.run()
            alone()
        found.append(arrays["d.y"].tobytes() + arrays["b.y"].tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_nodes_without_machine_code_are_no_job() -> None:
    graph = chain()
    addresses = {name: array.ctypes.data for name, array in memory(graph).items()}
    assert job_of(graph, ["a", "end"], addresses) is None


def test_what_the_device_calls_for_is_done_and_answered() -> None:
    graph = chain()
    arrays = memory(graph)
    words = np.zeros((3, 32), np.uint32)
    server = JobServer([job(graph, arrays, "ab"), None, job(graph, arrays, "cd")], words.ctypes.data, 32, 16)
    left = {0, 1, 2}
    assert server.serve(left, 1000) == -1
    assert server.seen == 0
    assert left == {0, 1, 2}
    begin = time.perf_counter()
    words[2, 0] = 1
    assert server.serve(left, 1000) == -1
    assert begin <= server.seen <= time.perf_counter()
    assert left == {0, 1}
    assert words[:, 0].tolist() == [0, 0, 0]
    assert words[:, 16].tolist() == [0, 0, 1]
    words[1, 0] = 1
    assert server.serve(left, 1000) == 1, "that is somebody else's"
    assert words[1].tolist() == [1] + [0] * 31
    assert left == {0, 1}
    left.remove(1)
    words[:, 0] = 1
    assert server.serve(left, 1000) == -1
    assert left == set()
    assert words[:, 0].tolist() == [0, 1, 1]
    assert set(server.times()) == set("abcd")


def test_threads_are_woken_once_shortly_before_a_call_is_expected() -> None:
    graph = chain()
    arrays = memory(graph)
    words = np.zeros((1, 32), np.uint32)
    server = JobServer([job(graph, arrays, "abcd")], words.ctypes.data, 32, 16)
    server.expect(3600)
    assert server.serve({0}, 1000) == -1
    assert server.is_expecting, "that is an hour away"
    server.expect(1e-6)
    assert server.serve({0}, 1000) == -1
    assert not server.is_expecting
    server.expect(0)
    assert not server.is_expecting, "nobody knows when"


def test_jobs_are_right_whenever_threads_are_woken() -> None:
    graph = chain()
    arrays = memory(graph)
    words = np.zeros((1, 32), np.uint32)
    made = job(graph, arrays, "abcd")
    server = JobServer([made], words.ctypes.data, 32, 16)
    made.run()
    expected = {name: arrays[f"{name}.y"].copy() for name in "abcd"}
    for number in range(300):
        for name in "abcd":
            arrays[f"{name}.y"].fill(np.nan)
        server.expect(1e-6 * (number % 7))
        left = {0}
        server.serve(left, 1000 * (number % 150))  # the threads are on their way, look, or sleep again
        words[0] = [1] + [0] * 31
        assert server.serve(left, 10_000_000) == -1
        assert left == set()
        for name in "abcd":
            np.testing.assert_array_equal(arrays[f"{name}.y"], expected[name])


def test_a_server_without_jobs_is_not_native() -> None:
    assert not JobServer([None, None], 0, 32, 16).is_native
