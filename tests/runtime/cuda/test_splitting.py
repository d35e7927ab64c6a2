"""Graphs that are launched split by split: the same values, host and device side by side, and failures."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.emit.segments import segments_of
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported
from tests.runtime.cuda import hosts
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.graphs import I32, N, case, numbers
from tests.runtime.cuda.support import X, twice


def two_sequences() -> Graph:
    """Two chains; in the middle of each there is a kernel of the host."""
    builder = GraphBuilder("two_sequences")
    for i in range(2):
        x, y = builder.input(f"x{i}", I32, (N,)), builder.output(f"y{i}", I32, (N,))
        a, b = builder.temp(f"a{i}", I32, (N,)), builder.temp(f"b{i}", I32, (N,))
        builder.launch(KERNELS["add_i32"], a=x, b=x, y=a, node=f"first{i}")
        builder.launch(KERNELS["add_i32"], a=a, b=a, y=b, node=f"host{i}")
        builder.launch(KERNELS["add_i32"], a=b, b=b, y=y, node=f"last{i}")
    return PassManager('place{host="#host*"},splits').run(builder.build()).graph


def test_segments() -> None:
    whole = segments_of(two_sequences(), apart=False)
    assert [segment.is_host for segment in whole] == [False, True, False]
    assert [segment.sources for segment in whole] == [(), (0,), (1,)]
    apart = segments_of(two_sequences(), apart=True)
    assert [segment.is_host for segment in apart] == [False, False, True, True, False, False]
    assert [segment.sources for segment in apart] == [(), (), (0,), (1,), (2,), (3,)]
    assert {name for segment in apart for name in segment.nodes} == set(two_sequences().nodes)


@pytest.mark.parametrize("splits", ["plans", "synchronous", "signals", "measured"])
@pytest.mark.parametrize("name", ["host", "host_kernels", "twice"])
def test_values(api: FakeCuda, splits: Any, name: str) -> None:
    chosen = case(name)
    if (splits, name) == ("signals", "host"):
        with pytest.raises(Unsupported, match="would wait for ever"):
            CudaTarget(splits=splits).load(chosen.graph, chosen.weights)
        return
    program = CudaTarget(splits=splits).load(chosen.graph, chosen.weights)
    expected = ReferenceTarget().load(chosen.graph, chosen.weights)
    for inputs in chosen.inputs:
        given, wanted = program.run(inputs), expected.run(inputs)
        for key, value in wanted.items():
            np.testing.assert_array_equal(given[key], value, err_msg=f"{key} of {inputs}")
    program.close()


@pytest.mark.parametrize("splits", ["plans", "synchronous"])
def test_what_waits_for_one_split_of_the_host_does_not_wait_for_the_other(api: FakeCuda, splits: Any) -> None:
    program = CudaTarget(splits=splits).load(two_sequences(), {})
    inputs = {"x0": numbers(1), "x1": numbers(2)}
    begin = len(api.log)
    found = program.run(inputs)
    for i in range(2):
        np.testing.assert_array_equal(found[f"y{i}"], 8 * inputs[f"x{i}"])
    calls = [name for name in api.log[begin:] if name in ("cuGraphLaunch", "cuEventQuery", "cuStreamSynchronize")]
    assert calls.count("cuGraphLaunch") == (4 if splits == "plans" else 2)
    assert calls.count("cuEventQuery") == (3 if splits == "plans" else 0)  # the last one for the end
    program.close()


@pytest.mark.parametrize("splits", ["plans", "synchronous", "signals", "measured"])
def test_nothing_is_launched_after_a_failure_and_the_next_step_runs(api: FakeCuda, splits: Any) -> None:
    builder = GraphBuilder("failing")
    x, row = builder.input("x", I32, (N,)), builder.input("row", I32, (1,))
    m, total = builder.temp("m", I32, (2, N)), builder.state("total", I32, (2, N))
    flat, sums = builder.temp("flat", I32, (2 * N,)), builder.state("sums", I32, (2 * N,))
    builder.fill(m, 0, node="clear")
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad(row), node="put")
    builder.copy(m, total, node="keep")
    builder.copy(m, flat, node="flatten")
    builder.launch(KERNELS["accumulate_i32"], x=flat, y=sums, node="sum")
    graph = PassManager('place{host="#put"},splits').run(builder.build()).graph
    program = CudaTarget(splits=splits).load(graph, {})
    program.run({"x": X, "row": [0]})
    before = program.read("total"), program.read("sums")
    with pytest.raises(InvalidInput, match=r"node 'put'.*rows 7:8 are outside"):
        program.run({"x": X, "row": [7]})
    np.testing.assert_array_equal(program.read("total"), before[0])
    np.testing.assert_array_equal(program.read("sums"), before[1])
    program.run({"x": X, "row": [1]})
    assert program.read("total").tolist() == [[0] * N, X.tolist()]
    program.close()


def test_a_chain_is_not_handed_from_thread_to_thread(api: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = GraphBuilder("chain")
    x = builder.input("x", I32, (N,))
    for name in ("host0", "n0", "host1", "n1"):
        y = builder.temp(f"{name}.y", I32, (N,)) if name != "n1" else builder.output("y", I32, (N,))
        builder.launch(KERNELS["add_i32"], a=x, b=x, y=y, node=name)
        x = y
    graph = PassManager('place{host="#host*"},splits').run(builder.build()).graph
    program = CudaTarget(splits="plans").load(graph, {})
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda *_: pytest.fail("another thread works"))
    assert program.run({"x": X})["y"].tolist() == (16 * X).tolist()
    program.close()


@pytest.mark.parametrize("splits", ["graph", "plans"])
def test_who_waits_for_work_of_the_host_sleeps(api: FakeCuda, splits: Any) -> None:
    program = CudaTarget(splits=splits).load(two_sequences(), {})
    program.launch()
    begin = len(api.log)
    program.synchronize()
    assert "cuEventQuery" in api.log[begin:]
    assert "cuStreamSynchronize" not in api.log[begin:]
    program.close()


def test_threads_are_bounded_and_end_with_the_program(api: FakeCuda) -> None:
    def ours() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("forerun-host")]

    program = CudaTarget(splits="plans").load(two_sequences(), {})
    for _ in range(20):
        program.run({"x0": X, "x1": X})
        (thread,) = ours()
    program.close()
    del program
    gc.collect()
    thread.join(timeout=10)  # it is told to end, and ends a moment later
    assert ours() == []


def test_graphs_without_work_for_the_host_are_one_graph(api: FakeCuda) -> None:
    program = CudaTarget(splits="plans").load(case("twice").graph, {})
    begin = len(api.log)
    program.run({"x": X})
    assert api.log[begin:].count("cuGraphLaunch") == 1
    program.close()


def calling(function: str) -> Graph:
    """A graph whose only host node calls one of the functions of the tests."""
    builder = GraphBuilder("calling")
    x = builder.input("x", I32, (N,))
    here, there = (builder.buffer(name, I32, (N,), BufferRole.OUTPUT, place=HOST) for name in ("here", "there"))
    builder.copy(x, here)
    builder.host(f"tests.runtime.cuda.hosts:{function}", [here], [there], node="call")
    return builder.build()


@pytest.mark.parametrize("function", ["runs_a_program", "launches_a_program", "reports_like_torch"])
def test_a_function_of_a_host_node_that_calls_cuda_is_reported(
    api: FakeCuda, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    other = CudaTarget().load(twice(), {})
    monkeypatch.setattr(hosts, "program", other)
    program = CudaTarget().load(calling(function), {})
    with pytest.raises(ForerunError, match=r"node 'call'.*(?i:not.permitted)") as caught:
        program.run({"x": X})
    assert "a function of a host node called CUDA, which the driver forbids" in str(caught.value)
    assert "cuda{splits=plans}" in str(caught.value)
    np.testing.assert_array_equal(other.run({"x": X})["y"], 2 * X)
    program.close()
    other.close()


@pytest.mark.parametrize("splits", ["plans", "synchronous"])
def test_a_function_that_forerun_calls_may_call_cuda(
    api: FakeCuda, monkeypatch: pytest.MonkeyPatch, splits: Any
) -> None:
    other = CudaTarget().load(twice(), {})
    monkeypatch.setattr(hosts, "program", other)
    program = CudaTarget(splits=splits).load(calling("runs_a_program"), {})
    np.testing.assert_array_equal(program.run({"x": X})["there"], 3 * X)
    program.close()
    other.close()
