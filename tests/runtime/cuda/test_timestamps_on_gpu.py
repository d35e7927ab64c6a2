"""Timelines of real replays: what must hold for any GPU, and that programmatic edges overlap where full ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import forerun
from forerun.cli import main
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Trigger, Wait
from forerun.ir.nodes import Launch
from forerun.ir.text import print_graph
from forerun.ir.types import DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.measure.bandwidth import read_bandwidth
from forerun.measure.step import time_pair, timeline_of_step
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.driver.driver import driver
from tests.runtime.cuda.graphs import CASES, I32, case, decode
from tests.runtime.cuda.test_on_gpu import compare, run_both

pytestmark = pytest.mark.gpu

TICK = 2000
"""Nanoseconds that the clock may stand still for on some GPUs (an H100: 32)."""


@pytest.mark.parametrize("name", CASES)
def test_stamps_do_not_change_values(name: str) -> None:
    run_both(case(name), CudaTarget(timeline=True))
    assert driver().handles.live() == ()


def two_kernels(kind: DependencyKind) -> Graph:
    """The first lets the second start at once, and then works for about a millisecond, on one SM."""
    count = 1 << 16
    builder = GraphBuilder("two")
    x, y = builder.input("x", I32, (count,)), builder.output("y", I32, (count,))
    (role,) = KERNELS["add_i32"].roles or ()
    first = KERNELS["add_i32"].with_roles("first", (type(role)(role.name, (Trigger(), *role.steps)),))
    (role,) = KERNELS["accumulate_i32"].roles or ()
    second = KERNELS["accumulate_i32"].with_roles("second", (type(role)(role.name, (Wait(), *role.steps)),))
    builder.launch(first, a=x, b=x, y=y, launch=Launch((1, 1, 1), (32, 1, 1)), node="first")
    builder.launch(second, x=x, y=y, launch=Launch((64, 1, 1), (64, 1, 1)), node="second", after=[])
    builder.depend("first", "second", kind)
    return builder.build()


@pytest.mark.parametrize("kind", [DependencyKind.PROGRAMMATIC, DependencyKind.FULL])
def test_a_programmatic_dependency_overlaps_and_a_full_one_does_not(kind: DependencyKind) -> None:
    program = CudaTarget(timeline=True).load(two_kernels(kind), {})
    try:
        x = np.arange(1 << 16, dtype=np.int32)
        for _ in range(3):
            program.run({"x": x})
            timeline = program.timeline()
            first, second = timeline.nodes
            assert (first.name, second.name) == ("first", "second")
            assert second.after == (("first", str(kind)),)
            assert first.ends - first.begins > 20 * TICK
            triggered, waited = first.range("trigger"), second.range("wait")
            assert triggered is not None
            assert waited is not None
            assert triggered.last <= first.begins + 10 * TICK
            assert waited.first >= first.ends - TICK
            if kind is DependencyKind.PROGRAMMATIC:
                assert second.begins < first.ends - 10 * TICK
                assert timeline.overlap(second) > 10 * TICK
            else:
                assert second.begins >= first.ends - TICK
                assert timeline.overlap(second) <= TICK
    finally:
        program.close()


def test_what_holds_for_every_timeline() -> None:
    chosen = decode(1, DType.F32)
    with forerun.compile(chosen.graph, "cuda{timeline=true}", weights=chosen.weights) as program:
        program.run(chosen.inputs[0])
        timeline = program.timeline()
        assert [node.name for node in timeline.nodes] == list(program.graph.nodes)
        assert sum(timeline.shares.values()) == timeline.nanoseconds
        assert min(node.begins for node in timeline.nodes) == 0
        for node in timeline.nodes:
            kernel = program.graph.kernels[node.kernel]
            assert (node.range("wait") is not None) == kernel.has(Wait)
            assert (node.range("trigger") is not None) == kernel.has(Trigger)
            assert (node.start <= node.end).all()
            for step in (node.wait, node.trigger):
                taken = step >= 0
                assert (node.start[taken] <= step[taken] + TICK).all()
                assert (step[taken] <= node.end[taken]).all()
            assert (node.sm >= 0).all()
            assert node.sm.max() < 1024
            assert node.most_on_one_sm <= node.ctas
        assert timeline.nanoseconds < 1e9 * program.seconds_per_replay(3) * 20


def test_the_timeline_of_a_program_leaves_its_outputs_alone() -> None:
    chosen = decode(1, DType.BF16)
    with forerun.compile(chosen.graph, "cuda", weights=chosen.weights) as program:
        expected = program.run(chosen.inputs[0])
        timeline = timeline_of_step(CudaTarget(), program, chosen.inputs[0], lambda _: None)
        assert len(timeline.nodes) == len(program.graph)
        compare(program.run(chosen.inputs[0]), expected)
        pair = time_pair(program, program, 40)
        assert 0.5 < pair.speedup.value < 2


def test_the_ceiling() -> None:
    bandwidth = read_bandwidth(CudaTarget(), 1 << 29)
    assert 5e10 < bandwidth < 2e13
    assert driver().handles.live() == ()


def test_forerun_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, trace, folder = tmp_path / "g.fir", tmp_path / "trace.json", tmp_path / "dump"
    graph.write_text(print_graph(decode(1, DType.BF16).graph))
    options = ["--position", "9", "--against", "", "--steps", "40", "--trace", str(trace), "--dump", str(folder)]
    assert main(["bench", str(graph), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["step"]["share_us"] == pytest.approx(told["stamped_step_us"])
    assert 0 < told["pipelines"][0]["step_us"]["low"] <= told["pipelines"][0]["step_us"]["high"]
    assert told["read_bandwidth_gbs"] > 50
    assert 0 < told["step"]["of_ceiling"] < 1.5
    assert len(json.loads(trace.read_text())["traceEvents"]) > told["step"]["nodes"]
    assert "One step" in (folder / "index.html").read_text()
    assert driver().handles.live() == ()
