"""A loaded program: inputs, launches on streams, arrays that outlive it."""

from __future__ import annotations

import gc
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.driver.streams import stream_handle
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.graphs import I32, N, started
from tests.runtime.cuda.support import W, X, load, on_fake, rich, twice

# Inputs and outputs


def test_inputs_are_checked_before_anything_is_written(api: FakeCuda) -> None:
    program = load(twice())
    program.run({"x": X})
    calls = len(api.log)
    for wrong, expected in (
        ({}, "no value for input %x"),
        ({"x": X, "z": X}, "the graph has no input '%z'"),
        ({"x": X[:3]}, r"input '%x': expected i32\[8\], given i32\[3\]"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            program.run(wrong)
    assert "cuMemcpyHtoDAsync" not in api.log[calls:]
    program.close()


def test_temporaries_begin_as_poison_and_state_as_zeros(api: FakeCuda) -> None:
    program = load(rich(), W)
    assert program.read("sum").tolist() == program.read("here").tolist() == [-1] * N
    assert program.read("total").tolist() == [0] * N
    assert program.read("w").tolist() == W["w"].tolist()
    program.close()


@pytest.mark.parametrize("together", [True, False])
def test_nodes_in_somebodys_graph_work_on_the_programs_memory(api: FakeCuda, together: bool) -> None:
    """Both at once, or one behind the other, several times."""
    builder = GraphBuilder("two")
    x, y, half = builder.input("x", I32, (N,)), builder.output("y", I32, (N,)), builder.temp("half", I32, (N,))
    builder.launch(KERNELS["add_i32"], node="first", a=x, b=x, y=half)
    builder.launch(KERNELS["add_i32"], node="second", a=half, b=half, y=y)
    program = load(PassManager("infer-dependencies").run(builder.build()).graph)
    driver = program._resources.driver
    for number in range(2):
        program.buffer("x").assign(X + number)
        graph = driver.call("cuGraphCreate", 0)
        before = list(program.emit_into(graph, ["first"], []).values())
        parts = [["first", "second"]] if together else [["first"], ["second"]]
        for part in parts:
            before = list(program.emit_into(graph, part, before[-1:]).values())
        assert [len(node.after) for node in api.graphs[int(graph)]] == [0, 1, 1]
        with program._resources.context.current():
            api._run(api.graphs[int(graph)])
        np.testing.assert_array_equal(program.read("y"), 4 * (X + number))
        driver.call("cuGraphDestroy", graph)
    program.close()
    with pytest.raises(InvalidInput, match="closed"):
        program.emit_into(graph, ["first"], [])


def test_reading_and_writing(api: FakeCuda) -> None:
    program = load(rich(), W)
    program.write("total", X)
    program.run({"x": X})
    np.testing.assert_array_equal(program.read("total"), 2 * X + X + 100)
    program.buffer("x").assign([7] * N)
    np.testing.assert_array_equal(program.read("x"), [7] * N)
    with pytest.raises(InvalidInput, match="'%y' is output, not state"):
        program.write("y", X)
    with pytest.raises(InvalidInput, match=r"%w is weight\nhint: only inputs and state can be written"):
        program.buffer("w").assign(X)
    with pytest.raises(InvalidInput, match="no buffer 'totl'\nhint: did you mean '%total'"):
        program.buffer("totl")
    program.close()


def test_a_host_function_that_fails_is_told_by_the_run(api: FakeCuda) -> None:
    builder = GraphBuilder("failing")
    x = builder.input("x", I32, (N,))
    here, there = (builder.buffer(n, I32, (N,), BufferRole.OUTPUT, place=HOST) for n in ("here", "there"))
    builder.copy(x, here)
    builder.host("tests.runtime.cuda.hosts:fail", [here], [there], node="call")
    program = load(builder.build())
    with pytest.raises(InvalidInput, match="node 'call': raised ValueError: thirteen") as caught:
        program.run({"x": [13] * N})
    assert isinstance(caught.value.__cause__, ValueError)
    assert program.run({"x": [1] * N})["there"].tolist() == [1] * N
    program.buffer("x").assign([13] * N)
    program.launch()
    with pytest.raises(InvalidInput, match="thirteen"):
        program.synchronize()
    program.close()


def test_kernels_of_the_host_need_memory_there(api: FakeCuda) -> None:
    placed = PassManager('place{host="#second"}').run(twice_again()).graph
    with pytest.raises(Unsupported, match="node 'second' runs on the host, but %y lies on the device") as caught:
        load(placed)
    assert "fuse-splits" in str(caught.value)
    assert api.leaks() == {}
    load(PassManager("splits").run(placed).graph).close()


def test_a_kernel_of_the_host_that_fails_is_told_and_the_next_step_runs(api: FakeCuda) -> None:
    """The kernel loads a row number from memory, which may be out of range."""
    builder = GraphBuilder("failing")
    x, row = builder.input("x", I32, (N,)), builder.input("row", I32, (1,))
    m = builder.output("m", I32, (2, N))
    builder.fill(m, 0, node="clear")
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad(row), node="put")
    program = load(PassManager('place{host="#put"},splits').run(builder.build()).graph)
    with pytest.raises(InvalidInput, match=r"node 'put'.*rows 7:8 are outside"):
        program.run({"x": X, "row": [7]})
    assert program.run({"x": X, "row": [1]})["m"].tolist() == [[0] * N, X.tolist()]
    program.close()


def twice_again() -> Graph:
    """Two sums, one after the other."""
    builder, _, y = started("twice_again")
    builder.launch(KERNELS["add_i32"], a=y, b=y, y=builder.output("z", I32, (N,)), node="second")
    return builder.build()


def test_a_host_function_that_does_not_exist(api: FakeCuda) -> None:
    builder = GraphBuilder("missing")
    here = builder.buffer("here", I32, (N,), BufferRole.OUTPUT, place=HOST)
    builder.host("tests.runtime.cuda.hosts:negativ", [here], [here], node="call")
    with pytest.raises(InvalidInput, match=r"node 'call'.*no function 'negativ'\nhint: did you mean 'negative'"):
        load(builder.build())


# Launches


def test_streams_of_every_kind() -> None:
    cuda_core = SimpleNamespace(__cuda_stream__=lambda: (0, 17))
    older = SimpleNamespace(__cuda_stream__=(0, 18))
    handles = [cuda_core, older, SimpleNamespace(cuda_stream=19), SimpleNamespace(ptr=20), 21]
    assert [stream_handle(stream) for stream in handles] == [17, 18, 19, 20, 21]
    for wrong in (-1, 1.5, "stream", True, SimpleNamespace(__cuda_stream__=(1, 5))):
        with pytest.raises(InvalidInput, match="stream"):
            stream_handle(wrong)


def test_launches(api: FakeCuda) -> None:
    program = load(rich(), W)
    program.run({"x": X})
    own = api.launches[0]
    program.launch()
    program.launch(1)
    program.launch(SimpleNamespace(cuda_stream=2))
    assert api.launches == [own, own, 1, 2]
    calls = len(api.log)
    program.synchronize()
    assert "cuCtxSynchronize" in api.log[calls:]
    np.testing.assert_array_equal(program.read("total"), 15 * (X + 100))
    program.close()


def test_a_launch_is_one_call(api: FakeCuda) -> None:
    program = load(rich(), W)
    calls = len(api.log)
    for _ in range(3):
        program.launch()
    assert api.log[calls:] == ["cuGraphLaunch"] * 3
    program.close()


def test_a_launch_costs_little_beside_the_driver(api: FakeCuda) -> None:
    """At most 2 us; measured are 0.1 without a stream, and 0.8 with one of torch's kind through an executable."""
    with forerun.compile(twice(), CudaTarget(), None, instruments=()) as executable:
        executable._program._graph_launch = lambda graph, stream: (0,)  # type: ignore[union-attr]
        stream, times = SimpleNamespace(cuda_stream=2), []
        for _ in range(5):
            began = time.process_time()
            for _ in range(5000):
                executable.launch(stream)
            times.append(time.process_time() - began)
    assert min(times) / 5000 < 2e-6


def test_a_launch_on_a_thread_without_a_context(api: FakeCuda) -> None:
    program = load(rich(), W)
    api.current = 0
    program.launch()
    assert api.current == api.context
    program.close()


def test_the_context_of_others_is_put_back(api: FakeCuda) -> None:
    api.current = 0xABBA
    program = load(twice())
    program.run({"x": X})
    assert api.current == 0xABBA
    program.close()
    assert api.current == 0xABBA


def test_the_context_is_kept_for_the_next_program(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake(monkeypatch, api) as driver:
        for _ in range(3):
            load(twice()).close()
        assert (api.retained, api.current) == (1, api.context)
        driver.release_contexts()
        assert (api.retained, api.current) == (0, 0)
        load(twice()).close()
        assert api.retained == 1
    del driver
    gc.collect()
    assert (api.retained, api.current) == (0, 0)


# The end


def test_a_closed_program_is_told(api: FakeCuda) -> None:
    program = load(twice())
    program.close()
    program.close()
    for use in (lambda: program.run({"x": X}), program.launch, program.reset, lambda: program.buffer("x")):
        with pytest.raises(InvalidInput, match="the program is closed"):
            use()


def test_a_program_that_nobody_refers_to_is_given_back(api: FakeCuda) -> None:
    program = load(rich(), W)
    program.launch()
    del program
    gc.collect()
    assert api.leaks() == {}


def test_the_order_of_the_end(api: FakeCuda) -> None:
    program = load(rich(), W)
    calls = len(api.log)
    program.close()
    ends = [name for name in api.log[calls:] if "Destroy" in name or "Free" in name or "Unload" in name]
    order = ["cuGraphExecDestroy", "cuGraphDestroy", "cuModuleUnload", "cuMemFree", "cuMemFreeHost", "cuEventDestroy"]
    assert list(dict.fromkeys(ends)) == [*order, "cuStreamDestroy"]
    assert api.log[calls:].index("cuEventQuery") < api.log[calls:].index("cuGraphExecDestroy")


def test_arrays_outlive_their_program(api: FakeCuda) -> None:
    program = load(twice())
    program.run({"x": X})
    array = program.buffer("y")
    program.close()
    assert "memory" in api.leaks()
    assert "executables" not in api.leaks()
    np.testing.assert_array_equal(array.numpy(), 2 * X)
    capsule = array.__dlpack__(stream=-1)
    del array
    gc.collect()
    assert "memory" in api.leaks()
    del capsule
    assert api.leaks() == {}


def test_the_last_array_may_die_on_another_thread(api: FakeCuda) -> None:
    program = load(twice())
    held = [program.buffer("y")]
    program.close()
    other = threading.Thread(target=held.clear)
    other.start()
    other.join()
    gc.collect()
    assert api.leaks() == {}
