"""Kernels that note their times: what is generated, what the machine code does, and what a program makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Implementation, Kernel, Role, Trigger, Wait
from forerun.ir.nodes import BufferArgument, KernelNode, Launch, ScalarLoad
from forerun.ir.trust import trusting
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.measure.bandwidth import read_bandwidth, reading_graph
from forerun.measure.trace import trace_events
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen.saved_state import SAVE_ENTRY, SAVE_SOURCE
from forerun.runtime.cuda.codegen.specialise import TIMELINE, Slot, Unit, specialise, units
from forerun.runtime.cuda.codegen.stamp import STAMP_ENTRY, STAMP_SOURCE
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.timestamps import WORDS, regions_of
from forerun.runtime.toolchain import Source, compile_unit, missing_toolchain
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda import hosts
from tests.runtime.cuda.graphs import I32, case
from tests.runtime.cuda.support import LOOP_WEIGHTS, N, W, X, fake_code, i32, load, loop, on_fake, rich, twice
from tests.runtime.cuda.test_codegen import LAUNCH, entry_of, graph_of, text_of, two_roles

NEEDS_TOOLCHAIN = pytest.mark.skipif(missing_toolchain() is not None, reason=f"no toolchain: {missing_toolchain()}")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    with on_fake(monkeypatch) as driver:
        yield driver
        assert driver.handles.live() == ()


def unit_of(kernel: Kernel, launch: Launch = LAUNCH, *, timeline: bool = True, delays: bool = False) -> Unit:
    arguments = {p.name: BufferArgument("v") for p in kernel.buffer_parameters}
    loads = {p.name: ScalarLoad("position", 1, 2) for p in kernel.scalar_parameters}
    graph = graph_of(kernel, {**arguments, **loads}, launch)
    node = graph.nodes["n"]
    assert isinstance(node, KernelNode)
    return specialise(graph, node, timeline=timeline, delays=delays)


def hoisted() -> Kernel:
    add = KERNELS["add_i32"]
    first, second = add.phases
    return add.with_roles("add_i32.pdl2", (Role("all", (Trigger(), first, Wait(), second)),))


# The text

ENTRY = """\
extern "C" __global__ void __launch_bounds__(64)
add_i32_pdl_kernel(const int* a, const int* b, int* y, unsigned long long* __timeline) {
    const builtin::Arguments arguments{a, b, y};
    builtin::Locals locals;

    stamp_start<builtin::Launch>(__timeline);
    trigger();
    stamp_time<builtin::Launch>(__timeline, STAMP_TRIGGER, 0);
    builtin::load(arguments, locals);
    wait();
    stamp_time<builtin::Launch>(__timeline, STAMP_WAIT, 0);
    builtin::add(arguments, locals);
    stamp_end<builtin::Launch>(__timeline);
}
"""

ROLES = """\
    stamp_start<generated::Launch>(__timeline);
    const int warp_in_cta = thread_in_cta() / 32;
    if (warp_in_cta < 1) {  // role loader
        delay(key, 0);
        generated::load(arguments, locals);
        delay(key, 1);
        wait();
        stamp_time<generated::Launch>(__timeline, STAMP_WAIT, 0);
        delay(key, 2);
        cta_barrier();
        delay(key, 3);
    } else if (warp_in_cta < 3) {  // role main
        delay(key, 4);
        cta_barrier();
        delay(key, 5);
        generated::store(arguments, locals);
        delay(key, 6);
        fenced_trigger();
        stamp_time<generated::Launch>(__timeline, STAMP_TRIGGER, 32);
        delay(key, 7);
    } else {  // no role, but all threads of the CTA do this
        cta_barrier();
    }
    stamp_end<generated::Launch>(__timeline);
}
"""


def test_stamps_stand_behind_the_steps_that_they_are_of() -> None:
    unit = unit_of(hoisted())
    assert entry_of(unit) == ENTRY
    assert text_of(unit).startswith('#include "device.cuh"\n#include "timeline.cuh"\n')
    assert isinstance(unit.source, Source)
    assert [name for name, _ in unit.source.headers] == ["builtin.cu", "device.cuh", "timeline.cuh"]
    assert unit.slots[-1] == Slot(TIMELINE, "pointer", DType.U64)
    assert len(unit.slots) == 4


def test_roles_are_stamped_by_their_first_threads_and_delays_may_be_there_too() -> None:
    unit = unit_of(two_roles(), Launch(block=(128, 1, 1)), delays=True)
    assert entry_of(unit).endswith(ROLES)
    assert [slot.parameter for slot in unit.slots[-2:]] == ["__delay_seed", TIMELINE]


def test_without_the_option_nothing_is_added() -> None:
    plain = unit_of(hoisted(), timeline=False)
    assert "stamp" not in text_of(plain)
    assert "timeline" not in text_of(plain)
    assert TIMELINE not in [slot.parameter for slot in plain.slots]
    without_stamps = "".join(line for line in ENTRY.splitlines(keepends=True) if "stamp_" not in line)
    assert without_stamps.replace(", unsigned long long* __timeline", "") == entry_of(plain)


@NEEDS_TOOLCHAIN
@pytest.mark.parametrize("launch", [LAUNCH, Launch((2, 3, 2), (16, 2, 2)), Launch((5, 1, 1), (48, 1, 1))])
def test_the_machine_code_reads_the_clock_and_stores_what_it_read(launch: Launch) -> None:
    for timeline in (False, True):
        unit = unit_of(hoisted(), launch, timeline=timeline)
        assert isinstance(unit.source, Source)
        cubin = compile_unit(unit.source)
        assert cubin.log == ""
        instructions = cubin.entries[unit.entry].instructions
        texts = [i.text for i in instructions]
        clocks = [i for i, text in enumerate(texts) if "SR_GLOBALTIMER" in text]
        wide = [text for text in texts if text.partition(" ")[0].startswith("STG.E.64") or "STG.E.64 " in text]
        assert (len(clocks), len(wide)) == ((4, 5) if timeline else (0, 0))
        if timeline:
            kinds = [i.kind for i in instructions]
            trigger, wait = kinds.index("trigger"), kinds.index("wait")
            barrier = next(i for i, text in enumerate(texts) if "BAR.SYNC" in text)
            start, after_trigger, after_wait, end = clocks
            assert start < trigger < after_trigger < wait < after_wait < barrier < end
            # The load that was hoisted is still ahead of the wait.
            assert any(text.find("LDG") >= 0 for text in texts[trigger:wait])


@NEEDS_TOOLCHAIN
def test_roles_compile_with_stamps() -> None:
    unit = unit_of(two_roles(), Launch(block=(128, 1, 1)))
    assert isinstance(unit.source, Source)
    assert compile_unit(unit.source).log == ""


@NEEDS_TOOLCHAIN
@pytest.mark.parametrize(("entry", "text"), [(STAMP_ENTRY, STAMP_SOURCE), (SAVE_ENTRY, SAVE_SOURCE)])
def test_kernels_of_our_own_compile_without_a_word(entry: str, text: str) -> None:
    cubin = compile_unit(Source(f"{entry}.cu", text))
    assert (cubin.log, list(cubin.entries)) == ("", [entry])
    assert not cubin.entries[entry].spill_store_bytes


# The records


@pytest.mark.parametrize("name", ["every_kernel", "child", "if_else", "switch", "loop", "programmatic"])
def test_every_node_has_records_of_its_own(name: str) -> None:
    code = fake_code(case(name).graph, "sm_90", timeline=True)
    end = 0
    for path, (start, count) in regions_of(code).items():
        grid = code.units[code.unit_of[path]].launch.grid
        assert (start, count) == (end, grid[0] * grid[1] * grid[2])
        end += 8 * WORDS * count
    assert set(regions_of(code)) == set(code.unit_of)


def test_foreign_kernels_have_none(tmp_path: Path) -> None:
    path = tmp_path / "add.ptx"
    path.write_text(".version 9.0")
    graph = twice()
    kernel = graph.kernels["add_i32"]
    foreign = Kernel(kernel.name, kernel.parameters, None, (Implementation("ptx", str(path), "add"),))
    tables = graph.allocations.values(), graph.buffers.values()
    with trusting(path):
        made, _ = units(Graph("g", *tables, [foreign], graph.nodes.values()), timeline=True)
    assert [slot.parameter for slot in made[0].slots] == ["a", "b", "y"]


def test_a_program_tells_when_its_kernels_ran(driver: Driver) -> None:
    program = load(rich(), W, timeline=True)
    with pytest.raises(InvalidInput, match="no kernel has noted its times"):
        program.timeline()
    for _ in range(2):
        np.testing.assert_array_equal(program.run({"x": X})["there"].shape, (N,))
        timeline = program.timeline()
        add, accumulate = timeline.nodes
        assert (add.name, accumulate.name) == ("add", "accumulate")
        assert accumulate.begins - add.begins == 800
        assert [(span.name, span.kind) for span in timeline.spans] == [
            ("copy", "copy"),
            ("down", "link"),
            ("host", "host"),
        ]
        assert [node.name for node in timeline.timed] == ["add", "accumulate", "copy", "down", "host"]
        assert timeline.untimed == len(rich()) - 5
    program.close()


def test_what_did_not_run_in_the_last_replay_has_no_times(driver: Driver) -> None:
    program = load(loop(), LOOP_WEIGHTS, timeline=True)
    program.run({"start": i32(*[3] * N)})
    inner = [node.name for node in program.timeline().nodes]
    assert inner
    assert all(name.startswith("loop/") for name in inner)
    program.run({"start": i32(*[0] * N)})
    rest = program.timeline()
    assert (rest.nodes, [span.kind for span in rest.spans]) == ((), ["copy"])
    program.close()


@pytest.mark.parametrize("splits", ["graph", "plans", "synchronous", "measured"])
def test_host_and_link_are_in_the_timeline_and_in_the_trace(driver: Driver, splits: Any) -> None:
    builder = GraphBuilder("slow")
    x, y = builder.input("x", I32, (N,)), builder.output("y", I32, (N,))
    here, there = (builder.buffer(name, I32, (N,), BufferRole.TEMP, place=HOST) for name in ("here", "there"))
    builder.launch(KERNELS["add_i32"], a=x, b=x, y=y, node="add")
    builder.copy(y, here, node="down")
    builder.host("tests.runtime.cuda.hosts:slow", [here], [there], node="call")
    builder.launch(KERNELS["add_i32"], a=here, b=there, y=there, node="kernel")
    builder.copy(there, y, node="up")
    graph = PassManager('place{host="#kernel"},fuse-splits').run(builder.build()).graph
    program = load(graph, timeline=True, splits=splits)
    for _ in range(2):
        began = time.perf_counter_ns()
        np.testing.assert_array_equal(program.run({"x": X})["y"], 4 * X)
        took = time.perf_counter_ns() - began
        timeline = program.timeline()
        spans = {span.name: span for span in timeline.spans}
        assert {name: span.kind for name, span in spans.items()} == {
            "down": "link",
            "call": "host",
            "kernel": "host",
            "up": "link",
        }
        assert (spans["call"].work, spans["kernel"].work) == ("tests.runtime.cuda.hosts:slow", "add_i32")
        assert hosts.SLOW_NS <= spans["call"].ends - spans["call"].begins < took
        assert spans["call"].ends <= spans["kernel"].begins <= spans["kernel"].ends
        assert sum(timeline.shares.values()) == timeline.nanoseconds
        assert min(node.begins for node in timeline.timed) == 0
        assert 0 < timeline.clock_error < 1e9
        told = json.loads(json.dumps(timeline.to_json()))
        assert [span["name"] for span in told["spans"]] == ["down", "call", "kernel", "up"]
        events = list(trace_events(timeline))
        names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
        slices = {(names[event["pid"]], event["name"]) for event in events if event["ph"] == "X"}
        wanted = {("link", "down"), ("host", "call"), ("host", "kernel"), ("link", "up"), ("kernels of slow", "add")}
        assert wanted <= slices
    program.close()


def test_times_and_delays_in_one_program(driver: Driver) -> None:
    program = load(twice(), timeline=True, delays=3)
    np.testing.assert_array_equal(program.run({"x": X})["y"], 2 * X)
    assert len(program.timeline().nodes) == 1
    program.close()


def test_the_option_and_the_way_to_it(driver: Driver) -> None:
    assert str(CudaTarget(timeline=True)) == "cuda{timeline=true}"
    with forerun.compile(twice(), "cuda{timeline=true}") as program:
        program.run({"x": X})
        assert program.timeline().graph == "twice"
        assert program.seconds_per_replay(4) == pytest.approx(1.5e-3 / 4)
        with pytest.raises(InvalidInput, match="0 replays cannot be timed"):
            program.seconds_per_replay(0)
    with forerun.compile(twice(), "cuda") as program:
        program.run({"x": X})
        with pytest.raises(InvalidInput, match="the kernels note no times"):
            program.timeline()
    with forerun.compile(twice()) as program, pytest.raises(Unsupported, match="needs a GPU"):
        program.timeline()


# The ceiling


def test_bandwidth_is_bytes_by_seconds(driver: Driver) -> None:
    assert read_bandwidth(CudaTarget(), 1 << 18) == pytest.approx((1 << 18) / (1.5e-3 / 4))
    graph = reading_graph()
    (node,) = graph
    assert isinstance(node, KernelNode)
    assert graph.buffers["x"].size == 1 << 31
    assert node.launch.grid[0] == graph.buffers["x"].shape[0]
