"""Debug runs on threads that are simulated: wrong summaries and planted faults are seen, and right graphs are clean."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forerun
from forerun.external import debug, node_texts
from forerun.external.debug import check_on_gpu
from forerun.external.delay_plans import UNDELAYED, DelayPlan, delay_plans, delayed_code, fault_plans
from forerun.external.optimized import OptimizedGraph
from forerun.external.subject import Subject
from forerun.external.trials import Trials
from forerun.ir.refinement.certificate import certify
from forerun.ptx.launched import AtLaunch
from forerun.ptx.ranges import Ranges
from forerun.support.diagnostics import Unsupported
from forerun.testing import fault_runs, planted_faults
from forerun.testing.fault_runs import FaultRuns
from forerun.testing.planted_faults import KINDS, plant
from tests.captured.samples import BLOCKS, kernel
from tests.external.running_chain import (
    CTAS,
    NODES,
    THREADS,
    chain,
    inputs,
    live,
    optimized,
    texts_as_code,
)

__all__ = ["texts_as_code"]

pytestmark = pytest.mark.usefixtures("texts_as_code")


def test_a_right_graph_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    before = {name: cuda.memory.bytes_at(at, 64) for name, at in BLOCKS.items()}
    with optimized(cuda, monkeypatch) as graph:
        assert graph.graph.count_dependencies()["programmatic"] == 3
        report = check_on_gpu(graph, inputs(cuda), steps=2, seeds=4)
        assert report.is_clean, str(report)
        assert report.accesses_checked == 2 * NODES * CTAS * THREADS * 3
        assert (report.instructions, report.instructions_executed) == (3 * NODES, 3 * NODES)
        assert (report.nodes_checked, report.nodes_delayed, report.kept) == (NODES, NODES, {})
        assert (report.delayed_replays, report.delayed_mismatches, report.control_mismatches) == (8, 0, 0)
        assert report.steps_without_effect == 0
        assert str(report).startswith("192 accesses of 4 nodes: 0 outside, 0 on the wrong side of the wait\n")
        # Memory is as it was, and nothing is left.
        assert {name: cuda.memory.bytes_at(at, 64) for name, at in BLOCKS.items()} == before
    assert graph.live.driver.handles.live() == ()
    assert set(cuda.memory.blocks) == set(BLOCKS.values())


def test_an_optimized_graph_checks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(chain(), monkeypatch) as graph:
        found: list[OptimizedGraph] = []
        monkeypatch.setattr(debug, "check_on_gpu", lambda own, prepare: found.append(own))
        graph.check_on_gpu()
        assert found == [graph]


def test_the_code_of_the_program_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    report = check_on_gpu(live(cuda, monkeypatch), inputs(cuda), steps=2, seeds=1)
    assert report.is_clean
    assert report.accesses_checked == 2 * NODES * CTAS * THREADS * 3
    assert "2 replays with delays in 4 nodes: 0 differ" in str(report)


def test_an_access_outside_its_block_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1 MB before the block of y lies that of x: an index that is wrong goes there.
    cuda = chain(kernel("scale", "ld.global.u32 %r2, [%rd5+-1048576];", "st.global.u32 [%rd6], %r2;"))
    report = check_on_gpu(live(cuda, monkeypatch), inputs(cuda), steps=1, seeds=1)
    assert not report.is_clean
    assert report.accesses_outside == NODES * CTAS * THREADS
    assert len(report.wrong) == 4 * NODES
    assert str(report.wrong[0]) == (
        "n0 (scale): outside: line 15: read global 4 bytes at x + 4*%tid.x-1048576, before the wait, "
        f"address {BLOCKS['x'] - (1 << 20):#x}"
    )


def test_an_access_outside_what_the_import_claims_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))  # nothing wrong is kept
    own = Ranges.of

    def half(ranges: Ranges, launch: AtLaunch) -> dict[str, tuple[int, int]]:
        found = own(ranges, launch)
        assert set(found.values()) == {(0, 4 * THREADS)}
        return dict.fromkeys(found, (0, 2 * THREADS))

    monkeypatch.setattr(Ranges, "of", half)
    cuda = chain()
    report = check_on_gpu(live(cuda, monkeypatch), inputs(cuda), steps=1, seeds=1)
    # All lie in their blocks.
    assert report.accesses_outside == report.accesses_checked // 2 == NODES * CTAS * THREADS * 3 // 2


def test_kernels_that_keep_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    cuda.nodes[2].attributes = {"cooperative": 1}
    found = live(cuda, monkeypatch)
    report = check_on_gpu(found, steps=1, seeds=1)
    assert report.nodes_checked == NODES - 1
    assert report.kept == {"n1": "its CTAs may wait for each other, so they must all be resident"}
    polling = kernel(
        "scale", "$L:", "ld.acquire.gpu.global.u32 %r2, [%rd5];", "setp.eq.u32 %p1, %r2, 0;", "@%p1 bra $L;"
    )
    assert len(Subject.of(live(chain(polling), monkeypatch)).texts.kept) == NODES
    closed = replace(found, graph=replace(found.graph, functions=(replace(found.graph.functions[0], text=""),)))
    assert set(check_on_gpu(closed, steps=1, seeds=1).kept.values()) == {"its PTX is not known"}


def test_steps_that_show_nothing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain(kernel("scale", "ld.global.u32 %r2, [%rd6];", "st.global.u32 [%rd6], %r2;"))
    report = check_on_gpu(live(cuda, monkeypatch), steps=2, seeds=1)
    assert report.steps_without_effect == 2
    assert "0 differ from the program's own; 2 steps change nothing" in str(report)


def test_what_cannot_be_assembled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_texts, "assemble_as", lambda *arguments: (b"", "error: too much"))
    report = check_on_gpu(live(chain(), monkeypatch), steps=1, seeds=1)
    assert (report.nodes_checked, report.nodes_delayed) == (0, 0)
    assert set(report.kept.values()) == {"ptxas refuses it: error: too much"}


def test_a_graph_that_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain(kernel("scale", "ld.global.u32 %r2, [%rd5];"))
    with pytest.raises(Unsupported, match="writes no memory of the device that is known"):
        check_on_gpu(live(cuda, monkeypatch))


def test_planted_faults_are_seen_and_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    with optimized(cuda, monkeypatch) as graph:
        subject = Subject.of(graph)
        faults = plant(subject, 100, seed=3)
        assert Counter(fault.kind for fault in faults) == dict.fromkeys(KINDS, 3)
        assert [str(fault) for fault in plant(subject, 4, seed=3)] == [str(fault) for fault in faults[:4]]
        with Trials(subject.live, subject.imported, inputs(cuda)) as trials:
            trials.start(1)
            outcomes = list(FaultRuns(subject, faults).run(trials, seeds=1))
        for outcome in outcomes:
            fault = outcome.fault
            assert not outcome.reason
            if fault.kind == "nc put back":
                # In the threads here such a load is as any other.
                assert outcome.replays == 0
                assert ".nc" in (fault.text or "")
                continue
            assert not certify(subject.imported.graph, fault.graph).proved
            assert outcome.replays == 1, str(fault)
    assert graph.live.driver.handles.live() == ()


def test_a_fault_whose_code_computes_something_else_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    with optimized(cuda, monkeypatch) as graph:
        subject = Subject.of(graph)
        (fault,) = plant(subject, 1, kinds=["wait removed"])
        other = replace(fault, text=(fault.text or "").replace("add.u32", "sub.u32"))
        refused = replace(fault, text="st.global.u32")
        assert other.text != fault.text
        with Trials(subject.live, subject.imported, inputs(cuda)) as trials:
            trials.start(0)
            (outcome,) = FaultRuns(subject, [other]).run(trials, seeds=1)
            assert outcome.replays == 0
            assert "in the program's own order" in outcome.reason
            with pytest.raises(forerun.InvalidInput):
                FaultRuns(subject, [refused])


def test_faults_take_turns_and_their_texts_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(chain(), monkeypatch) as graph:
        subject = Subject.of(graph)
        made = Counter[str]()
        for module, name in (
            (planted_faults, "without_waits"),
            (planted_faults, "with_nc"),
            (planted_faults, "follow_body"),
            (fault_runs, "delayed"),
        ):
            count_calls(monkeypatch, module, name, made)
        faults = plant(subject, 100)
        assert len(faults) == 12
        # The first ones are of all kinds, and of all edges.
        assert [one.kind for one in faults[:4]] == list(KINDS)
        assert len({one.target for one in faults[:4]}) == 3
        FaultRuns(subject, faults)
        targets = {one.target for one in faults}
        texts = {subject.texts.texts[target].text for target in targets}
        assert made["without_waits"] == made["with_nc"] == len(texts) < len(targets)
        assert made["follow_body"] <= len(texts)
        assert made["delayed"] == len({one.text for one in faults if one.text})


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, calls: Counter[str]) -> None:
    own = getattr(module, name)

    def counted(*arguments: Any) -> Any:
        calls[name] += 1
        return own(*arguments)

    monkeypatch.setattr(module, name, counted)


def test_plans_delay_all_nodes_then_the_source_for_longer() -> None:
    plans = fault_plans(24, 20_000)
    assert plans[:8] == delay_plans(8, 20_000)
    assert len({plan.seed for plan in plans}) == len(set(map(str, plans))) == 24
    assert [plan.nanoseconds for plan in plans] == [20_000] * 8 + [100_000] * 8 + [400_000] * 8
    assert all(plan.nodes == "source" for plan in plans[8:])
    assert str(plans[1]) == "10% of the CTAs of even nodes, 20 us"
    assert str(plans[11]) == "end CTAs of the source alone, 100 us"
    assert delay_plans(11, 5)[8:] == [replace(plan, seed=plan.seed + 8, nanoseconds=5) for plan in plans[:3]]


def test_only_the_nodes_of_a_plan_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.of(live(chain(), monkeypatch))
    code = delayed_code(subject)

    def sleeping(plan: DelayPlan, source: str = "") -> list[str]:
        codes = code.codes(subject, plan, source)
        return [name for name in sorted(codes) if codes[name].more[0] & 0xFFFFF]

    assert sleeping(UNDELAYED) == []
    assert sleeping(DelayPlan(1, 50)) == ["n0", "n1", "n2", "n3"]
    assert sleeping(DelayPlan(1, 50, nodes="even"), "n1") == ["n0", "n2"]
    assert sleeping(DelayPlan(1, 50, nodes="odd")) == ["n1", "n3"]
    assert sleeping(DelayPlan(1, 50, nodes="source"), "n2") == ["n2"]


def test_registers_for_large_ctas(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    for threads, limit in ((1024, ("--maxrregcount=64",)), (384, ("--maxrregcount=168",)), (256, ())):
        for node in cuda.nodes.values():
            node.params.blockDimX = threads
        texts = Subject.of(live(cuda, monkeypatch)).texts.texts
        assert texts["n0"].options == ("-O3", *limit)
