"""One CUDA graph that waits for the host: calls and answers, replays in a row, and what goes wrong in between."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from cuda.bindings import driver as real

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import DType
from forerun.kernels import add, gemv
from forerun.kernels.builtin import KERNELS
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_ENTRY
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.emit.segments import joined, one_after_the_other, segments_of
from forerun.runtime.cuda.signalled import SignalledGraph
from forerun.runtime.native.build import compiler
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import COPY
from tests.runtime.cuda.graphs import I32, N
from tests.runtime.cuda.support import X
from tests.runtime.cuda.test_splitting import two_sequences


def counting() -> Graph:
    """Two kernels of the host in a chain, each between kernels of the device; the state counts what comes out."""
    builder = GraphBuilder("counting")
    x, total = builder.input("x", I32, (N,)), builder.state("total", I32, (N,))
    for name in ("n0", "host0", "n1", "host1"):
        y = builder.temp(f"{name}.y", I32, (N,))
        builder.launch(KERNELS["add_i32"], a=x, b=x, y=y, node=name)
        x = y
    builder.launch(KERNELS["accumulate_i32"], x=x, y=total, node="count")
    return PassManager('place{host="#host*"},splits').run(builder.build()).graph


def choosing() -> Graph:
    """A kernel of the host writes a row of a temporary, if there is such a row; the state sums up what it wrote."""
    builder = GraphBuilder("choosing")
    x, row = builder.input("x", I32, (N,)), builder.input("row", I32, (1,))
    m, flat = builder.temp("m", I32, (2, N)), builder.temp("flat", I32, (2 * N,))
    builder.fill(m, 0, node="clear")
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad(row), node="put")
    builder.copy(m, flat, node="flatten")
    builder.launch(KERNELS["accumulate_i32"], x=flat, y=builder.state("sums", I32, (2 * N,)), node="sum")
    return PassManager('place{host="#put"},splits').run(builder.build()).graph


def loaded() -> Any:
    return CudaTarget(splits="signals").load(counting(), {})


def test_a_segment_of_the_host_is_one_node_of_the_graph(api: FakeCuda) -> None:
    graph = counting()
    made = joined(graph, segments_of(graph, apart=True))
    assert len(made) == len(graph)
    assert [type(made.nodes[name]).__name__ for name in ("host0", "host1")] == ["EmptyNode"] * 2
    assert {(d.source, d.target) for d in made.dependencies} == {(d.source, d.target) for d in graph.dependencies}
    program = loaded()
    (nodes,) = api.executables.values()
    assert [node.entry for node in nodes].count(HAND_OVER_ENTRY) == 2
    assert not any(node.kind == COPY for node in nodes), "the kernel makes the copies before and after the host's work"
    program.close()


def test_segments_of_the_device_come_one_after_the_other() -> None:
    """So the host has the first sequence's work while the device has the second one's."""
    graph = two_sequences()
    segments = segments_of(graph, apart=True)
    made = one_after_the_other(joined(graph, segments), segments)
    ordered = nx.transitive_closure_dag(nx.DiGraph((d.source, d.target) for d in made.dependencies))
    assert ordered.has_edge("first0", "first1")
    assert ordered.has_edge("first1", "last0")
    assert ordered.has_edge("last0", "last1")
    assert not ordered.has_edge("host0", "first1")
    assert not ordered.has_edge("host0", "host1")


def test_nothing_but_one_graph_is_launched(api: FakeCuda) -> None:
    program = loaded()
    begin = len(api.log)
    program.run({"x": X})
    assert api.log[begin:].count("cuGraphLaunch") == 1
    program.close()


def test_replays_that_nobody_waited_for_count_too(api: FakeCuda) -> None:
    program = loaded()
    program.buffer("x").assign(X)
    for _ in range(5):
        program.launch()
    expected = np.zeros(N, np.int32)
    for _ in range(5):
        expected = 2 * expected + 16 * X
    np.testing.assert_array_equal(program.read("total"), expected)
    program.close()


def test_an_error_of_the_device_ends_the_wait(api: FakeCuda) -> None:
    """The device never calls: what it launched before has failed."""
    program = loaded()

    def fail(*_: int) -> None:
        api.sticky = real.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS

    api.kernels.update(dict.fromkeys({node.entry for nodes in api.executables.values() for node in nodes}, fail))
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        program.run({"x": X})
    api.join()
    api.sticky = None
    program.close()


def test_an_interrupted_replay_is_let_go(api: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    program = loaded()
    split = program._split
    work = split._work

    def interrupt() -> None:
        raise KeyboardInterrupt

    split._work = [[interrupt], *work[1:]]
    with pytest.raises(KeyboardInterrupt):
        program.run({"x": X})
    program.synchronize()
    split._work = work
    program.reset()
    program.run({"x": X})
    np.testing.assert_array_equal(program.read("total"), 16 * X)
    program.close()


def test_a_replay_that_is_interrupted_twice_is_let_go_by_the_next(api: FakeCuda) -> None:
    """The second time while the device is on its way to the end: calls that nobody took must not count later."""
    program = loaded()
    split = program._split
    work, wait = split._work, split._end.wait

    def interrupt() -> None:
        raise KeyboardInterrupt

    split._work, split._end.wait = [[interrupt], *work[1:]], interrupt
    with pytest.raises(KeyboardInterrupt):
        program.run({"x": X})
    split._work, split._end.wait = work, wait
    program.synchronize()
    api.join()
    program.reset()
    program.run({"x": X})
    np.testing.assert_array_equal(program.read("total"), 16 * X)
    program.close()


def test_a_replay_whose_end_cannot_be_noted_is_let_go(api: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    program = loaded()
    record, failing = api.cuEventRecord, [real.CUresult.CUDA_ERROR_OUT_OF_MEMORY]
    monkeypatch.setattr(api, "cuEventRecord", lambda *given: (failing.pop(),) if failing else record(*given))
    with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
        program.launch()
    api.join()
    program.reset()
    program.run({"x": X})
    np.testing.assert_array_equal(program.read("total"), 16 * X)
    program.close()


@pytest.mark.gpu
def test_replays_in_a_row_on_a_gpu() -> None:
    program, expected = loaded(), ReferenceTarget().load(counting(), {})
    for number in range(3):
        program.buffer("x").assign(X + number)
        for _ in range(5):
            program.launch()
            expected.run({"x": X + number})
        np.testing.assert_array_equal(program.read("total"), expected.read("total"))
    program.close()


@pytest.mark.gpu
@pytest.mark.parametrize("splits", ["graph", "signals", "plans", "synchronous", "measured"])
def test_a_kernel_of_the_host_that_fails_on_a_gpu(splits: Any) -> None:
    """What was enqueued behind the failed replay does nothing, and the next step runs."""
    program, expected = CudaTarget(splits=splits).load(choosing(), {}), ReferenceTarget().load(choosing(), {})
    lucky = {"x": X, "row": np.ones(1, np.int32)}
    for _ in range(4):
        np.testing.assert_equal(program.run(lucky), expected.run(lucky))
    program.buffer("row").assign([7])
    for _ in range(3):
        program.launch()
    with pytest.raises(InvalidInput, match=r"node 'put'.*rows 7:8 are outside"):
        program.synchronize()
    np.testing.assert_array_equal(program.read("sums"), expected.read("sums"))
    np.testing.assert_equal(program.run(lucky), expected.run(lucky))
    np.testing.assert_array_equal(program.read("sums"), expected.read("sums"))
    program.close()


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_machine_code_is_called_without_python_and_gives_the_same_bits(api: FakeCuda) -> None:
    """Products on the host between kernels of the device, many replays; the fake device calls from a thread."""
    builder = GraphBuilder("products")
    x = builder.input("x", DType.F32, (24,))
    for number in range(3):
        w = builder.weight(f"host.w{number}", DType.F32, (24, 24))
        made, both = builder.temp(f"made{number}", DType.F32, (24,)), builder.temp(f"both{number}", DType.F32, (24,))
        launch = gemv.launch_for(24, 24, DType.F32)
        builder.launch(gemv.KERNEL, w=w, x=x, y=made, node=f"host{number}", launch=launch)
        builder.launch(add.KERNEL, a=made, b=x, y=both, node=f"add{number}", launch=elementwise_launch(24))
        x = both
    y = builder.output("y", DType.F32, (24,))
    builder.launch(add.KERNEL, a=x, b=x, y=y, node="end", launch=elementwise_launch(24))
    graph = PassManager('place{host="host.*"},splits').run(builder.build()).graph
    random = np.random.default_rng(0)
    weights = {f"host.w{i}": random.normal(size=(24, 24)).astype(np.float32) / 5 for i in range(3)}
    inputs = {"x": random.normal(size=24).astype(np.float32)}
    expected = CudaTarget(splits="synchronous").load(graph, weights)
    program = CudaTarget(splits="signals").load(graph, weights)
    split = program._split
    assert isinstance(split, SignalledGraph)
    split._do = lambda number: pytest.fail(f"Python does segment {number}")  # type: ignore[method-assign]
    for _ in range(20):
        np.testing.assert_array_equal(program.run(inputs)["y"], expected.run(inputs)["y"])
        assert not split._left
    expected.close()
    program.close()
