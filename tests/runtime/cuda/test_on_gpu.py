"""The CUDA target on a real GPU: every kind of node against the reference target, and what only a driver can tell."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaError, CudaTarget
from forerun.runtime.cuda.driver.driver import Driver, driver, use_driver
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput
from tests.runtime.cuda.faults import Faults
from tests.runtime.cuda.graphs import CASES, I32, Case, N, case, decode, numbers, started
from tests.runtime.cuda.support import attempt

pytestmark = pytest.mark.gpu


def run_both(chosen: Case, target: CudaTarget) -> None:
    expected = ReferenceTarget().load(chosen.graph, chosen.weights)
    program = target.load(chosen.graph, chosen.weights)
    try:
        for inputs in chosen.inputs:
            compare(program.run(inputs), expected.run(inputs))
    finally:
        program.close()


def compare(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        if value.dtype.kind in "iu":
            np.testing.assert_array_equal(given[name], value, err_msg=name)
        else:
            actual, expected = (a.astype(np.float64) for a in (given[name], value))
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    run_both(case(name), CudaTarget())
    assert driver().handles.live() == ()


@pytest.mark.parametrize("name", ["every_kernel", "programmatic", "loop"])
def test_delays_do_not_change_values(name: str) -> None:
    run_both(case(name), CudaTarget(delays=5))


@pytest.mark.parametrize("name", ["every_kernel", "host", "loop"])
def test_compiled_with_the_default_pipeline(name: str) -> None:
    chosen = case(name)
    expected = ReferenceTarget().load(chosen.graph, chosen.weights)
    with forerun.compile(chosen.graph, "cuda", weights=chosen.weights) as program:
        assert program.facts
        for inputs in chosen.inputs:
            compare(program.run(inputs), expected.run(inputs))


@pytest.mark.parametrize(("steps", "dtype"), [(1, DType.F32), (3, DType.BF16)])
def test_decode_steps_after_all_passes(steps: int, dtype: DType) -> None:
    chosen = decode(steps, dtype)
    with (
        forerun.compile(chosen.graph, "cuda", weights=chosen.weights) as program,
        forerun.compile(chosen.graph, weights=chosen.weights) as expected,
    ):
        for inputs in chosen.inputs:
            given, wanted = program.run(inputs)["logits"], expected.run(inputs)["logits"]
            assert np.linalg.norm(given - wanted) <= 2e-2 * np.linalg.norm(wanted)


def test_state_survives_and_is_reset() -> None:
    chosen = case("every_kernel")
    with forerun.compile(chosen.graph, "cuda", None, weights=chosen.weights) as program:
        first = program.run(chosen.inputs[0])["z_i32"]
        second = program.run(chosen.inputs[0])["z_i32"]
        assert not np.array_equal(first, second)
        program.reset()
        np.testing.assert_array_equal(program.run(chosen.inputs[0])["z_i32"], first)
        kept = program.read("total_i32")
        program.run(chosen.inputs[0])
        program.write("total_i32", kept)
        np.testing.assert_array_equal(program.read("total_i32"), kept)
        np.testing.assert_array_equal(program.run(chosen.inputs[0])["z_i32"], second)


def test_launches_from_threads_and_on_streams_of_every_kind() -> None:
    chosen = case("every_kernel")
    api = driver()
    with forerun.compile(chosen.graph, "cuda", None, weights=chosen.weights) as program:
        first = program.run(chosen.inputs[0])["z_i32"]
        expected = [program.run(chosen.inputs[0])["z_i32"] for _ in range(6)][-1]
        program.reset()
        np.testing.assert_array_equal(program.run(chosen.inputs[0])["z_i32"], first)
        stream = api.call("cuStreamCreate", 1)
        for handle in (None, stream, int(stream), 0, 2):
            program.launch(handle)
        failures: list[BaseException] = []

        def launch() -> None:
            try:
                program.launch()
                program.synchronize()
            except BaseException as error:
                failures.append(error)

        other = threading.Thread(target=launch)
        other.start()
        other.join()
        assert failures == []
        api.call("cuStreamDestroy", stream)
        np.testing.assert_array_equal(program.read("z_i32"), expected)


def test_a_host_function_that_fails() -> None:
    builder = GraphBuilder("failing")
    x = builder.input("x", I32, (N,))
    here, there = (builder.buffer(n, I32, (N,), BufferRole.OUTPUT, place=HOST) for n in ("here", "there"))
    builder.copy(x, here)
    builder.host("tests.runtime.cuda.hosts:fail", [here], [there], node="call")
    with forerun.compile(builder.build(), "cuda") as program:
        with pytest.raises(InvalidInput, match=r"node 'call': raised ValueError: thirteen"):
            program.run({"x": np.full(N, 13, np.int32)})
        np.testing.assert_array_equal(program.run({"x": numbers(1)})["there"], numbers(1))


def test_out_of_memory_says_what_was_asked() -> None:
    builder = GraphBuilder("huge")
    huge = builder.output("huge", DType.I32, (1 << 44,))
    builder.fill(huge, 1)
    with pytest.raises(CudaError) as caught:
        CudaTarget().load(builder.build(), {})
    assert caught.value.is_out_of_memory
    assert "70.4 TB were asked for inputs, outputs and temporaries; " in str(caught.value)
    assert driver().handles.live() == ()


@pytest.mark.parametrize("name", ["host", "loop"])
def test_every_call_may_fail(name: str) -> None:
    """On the real driver: each call of a load, a run and a close fails in turn, and the next run works."""
    chosen = case(name)
    expected = ReferenceTarget().load(chosen.graph, chosen.weights).run(chosen.inputs[0])

    def exercise() -> None:
        program = CudaTarget().load(chosen.graph, chosen.weights)
        try:
            compare(program.run(chosen.inputs[0]), expected)
            program.buffer(next(iter(expected))).numpy()
        finally:
            program.close()

    faults = Faults(driver().api)
    with use_driver(Driver(faults)) as faulty:
        exercise()  # this one makes the context, and makes it current
        faults.arm(0)
        exercise()
        count, told = len(faults.names), 0
        for number in range(1, count + 1):
            faults.arm(number)
            error = attempt(exercise)
            failed = faults.names[number - 1]
            faults.arm(0)
            if error is not None:
                assert failed in str(error)
                told += 1
            assert faulty.handles.live() == (), f"call {number}, {failed}"
        exercise()
    assert told > count // 2


@pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="others' memory counts, too: run it without -n")
def test_building_and_closing_leaves_no_memory_behind() -> None:
    chosen = case("loop")

    def cycle(closing: bool) -> int:
        program = CudaTarget().load(chosen.graph, chosen.weights)
        program.run(chosen.inputs[0])
        if closing:
            program.close()
        del program
        gc.collect()
        return int(driver().call("cuMemGetInfo")[0])

    for _ in range(3):
        cycle(True)
    before = cycle(True)
    after = [cycle(i % 2 == 0) for i in range(20)][-1]
    assert after >= before - (2 << 20)


_CRASH = """
import numpy as np
from forerun.ir.builder import GraphBuilder
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaError, CudaTarget
builder = GraphBuilder("crash")
x, row = builder.input("x", DType.I32, (8,)), builder.input("row", DType.I32, (1,), bounds=(0, 3))
m, y = builder.state("m", DType.I32, (4, 8)), builder.output("y", DType.I32, (4, 8))
builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad("row"))
builder.copy(m, y)
program = CudaTarget().load(builder.build(), {})
program._loaded.staging.check = lambda inputs: inputs
for row in (2**30, -(2**30), 2**29, -(2**29), 2**31 - 1):  # some of it may be memory of the driver's
    try:
        program.run({"x": np.zeros(8, np.int32), "row": np.array([row], np.int32)})
    except CudaError as error:
        print(error)
program.close()
print("closed")
"""


def test_a_kernel_that_crashes_poisons_its_program() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", _CRASH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    first, *others = (line for line in done.stdout.splitlines() if "CUDA_ERROR_ILLEGAL_ADDRESS" in line)
    assert "a kernel accessed memory that is not its own" in first
    assert others
    assert all("this happened before" in line for line in others)
    assert done.stdout.endswith("closed\n")


# With torch


def test_torch_shares_memory_both_ways() -> None:
    torch = pytest.importorskip("torch")
    builder, _, y = started("shared")
    total = builder.state("total", I32, (N,))
    builder.launch(KERNELS["accumulate_i32"], x=y, y=total)
    x_here = torch.arange(N, dtype=torch.int32, device="cuda")
    total_here = torch.full((N,), 5, dtype=torch.int32, device="cuda")
    stream = torch.cuda.Stream()
    with forerun.compile(builder.build(), "cuda", memory={"x": x_here, "total": total_here}) as program:
        program.run({})
        assert total_here.tolist() == [10 + 2 * i for i in range(N)]
        shared = torch.from_dlpack(program.buffer("y"))
        assert shared.device.type == "cuda"
        assert shared.data_ptr() == program.buffer("y").address
        assert torch.as_tensor(program.buffer("y"), device="cuda").data_ptr() == shared.data_ptr()
        with torch.cuda.stream(stream):
            x_here.add_(1)
            program.launch(stream)
            doubled = shared * 1
        stream.synchronize()
        assert doubled.tolist() == [2 * (i + 1) for i in range(N)]
        program.reset()
        assert total_here.tolist() == [0] * N
    # The program is closed, and its memory is still torch's to read.
    assert shared.tolist() == doubled.tolist()
    del shared
    gc.collect()
    assert driver().handles.live() == ()


def test_torch_weights_stay_where_they_are() -> None:
    torch = pytest.importorskip("torch")
    builder = GraphBuilder("weights")
    w, y = builder.weight("w", DType.BF16, (64, 8)), builder.output("y", DType.BF16, (64, 8))
    builder.copy(w, y)
    weight = torch.randn(64, 8, device="cuda").to(torch.bfloat16)
    with forerun.compile(builder.build(), "cuda", weights={"w": weight}) as program:
        assert program.buffer("w").address == weight.data_ptr()
        program.run({})
        assert torch.equal(torch.from_dlpack(program.buffer("y")), weight)
    with pytest.raises(InvalidInput, match="not dense and row-major"):
        forerun.compile(builder.build(), "cuda", weights={"w": weight.t().contiguous().t()})


def test_an_input_on_the_device() -> None:
    torch = pytest.importorskip("torch")
    chosen = case("twice")
    with forerun.compile(chosen.graph, "cuda") as program:
        given = torch.arange(N, dtype=torch.int32, device="cuda") + 3
        assert program.run({"x": given})["y"].tolist() == [2 * (i + 3) for i in range(N)]


def rows_with_a_host_call() -> Graph:
    """Adds ``x`` to ``total`` and to a row of ``m`` that an input chooses, and calls a function that may raise."""
    builder = GraphBuilder("rows_with_a_host_call")
    x, here = builder.input("x", I32, (N,)), builder.buffer("here", I32, (N,), BufferRole.TEMP, place=HOST)
    builder.input("row", I32, (1,), bounds=(0, 4095))
    builder.launch(KERNELS["accumulate_i32"], x=x, y=builder.state("total", I32, (N,)))
    builder.launch(KERNELS["scale_row_i32"], x=x, m=builder.state("m", I32, (4096, N)), row=ScalarLoad("row"))
    builder.copy(x, here)
    builder.host(
        "tests.runtime.cuda.hosts:fail", [here], [builder.buffer("y", I32, (N,), BufferRole.OUTPUT, place=HOST)]
    )
    builder.launch(KERNELS["accumulate_i32"], x=x, y="total")
    return PassManager("splits").run(builder.build()).graph


@pytest.mark.parametrize("splits", ["graph", "plans", "synchronous", "measured"])
def test_after_a_failed_step_and_all_that_was_enqueued_state_is_as_before(splits: Any) -> None:
    graph = rows_with_a_host_call()
    program, expected = CudaTarget(splits=splits).load(graph, {}), ReferenceTarget().load(graph, {})
    inputs = [{"x": np.full(N, 1 + i, np.int32), "row": np.array([7 * i], np.int32)} for i in range(4)]
    for given in inputs[:2]:
        compare(program.run(given), expected.run(given))
    program.buffer("x").assign(np.full(N, 13, np.int32))
    for row in (100, 7, 4000, 0):
        program.buffer("row").assign([row])
        program.launch()
    with pytest.raises(InvalidInput, match="thirteen"):
        program.synchronize()
    for name in ("total", "m"):
        np.testing.assert_array_equal(program.read(name), expected.read(name))
    for given in inputs[2:]:
        compare(program.run(given), expected.run(given))
    program.close()


@pytest.mark.parametrize("splits", ["graph", "plans", "synchronous", "measured"])
def test_host_and_link_are_timed_in_the_order_in_which_they_run(splits: Any) -> None:
    program = CudaTarget(splits=splits, timeline=True).load(rows_with_a_host_call(), {})
    for _ in range(3):
        program.run({"x": np.ones(N, np.int32), "row": np.zeros(1, np.int32)})
    timeline = program.timeline()
    (link,) = [span for span in timeline.spans if span.kind == "link"]
    (host,) = [span for span in timeline.spans if span.kind == "host"]
    assert 0 < timeline.clock_error < 1_000_000
    assert link.begins < link.ends <= host.begins + timeline.clock_error
    assert host.ends <= timeline.nodes[-1].begins + timeline.clock_error
    program.close()
