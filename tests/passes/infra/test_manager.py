"""The loop with six hooks, and how failures are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from infra_samples import Add, Nothing, fills, lenient, overwritten, values

from forerun.ir.graph import Dependency, Graph
from forerun.passes.infra.base import Assessment, Pass, PassContext
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import Instrument, PassRun, PipelineRun, StopAfter, default_instruments
from forerun.support.diagnostics import InternalError, InvalidInput, Refuted, Unsupported


class Recorder(Instrument):
    """Writes down each call."""

    def __init__(self, calls: list[str], label: str = "") -> None:
        self.calls = calls
        self.label = label

    def before_pipeline(self, run: PipelineRun) -> None:
        self.calls.append(f"{self.label}before pipeline")

    def after_pipeline(self, run: PipelineRun) -> None:
        self.calls.append(f"{self.label}after pipeline")

    def before_pass(self, run: PipelineRun, step: PassRun) -> None:
        self.calls.append(f"{self.label}before {step.ordinal} {step.subject.name}")

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        self.calls.append(f"{self.label}after {step.ordinal} {step.subject.name}")

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        self.calls.append(f"{self.label}failed {step.ordinal} {step.subject.name}")

    def pass_skipped(self, run: PipelineRun, step: PassRun) -> None:
        self.calls.append(f"{self.label}skipped {step.ordinal} {step.subject.name}")


class EarlyRecorder(Recorder):
    order: ClassVar[int] = 1


def failure(graph: Graph, pipeline: str, dump: Path | None = None) -> PassFailure:
    with pytest.raises(PassFailure) as caught:
        PassManager(pipeline, lenient(dump)).run(graph)
    return caught.value


def test_passes_run_in_order() -> None:
    result = PassManager("test-add,test-add{amount=10},test-nothing", lenient()).run(fills(2))
    assert values(result.graph) == [11, 11]
    assert [record.verdict for record in result.summary.passes] == ["unsupported", "unsupported", "unchanged"]


def test_a_pipeline_may_be_a_value_or_text() -> None:
    graph = fills(2)
    value, text = PassManager(Pipeline([Add()]), lenient()), PassManager("test-add", lenient())
    assert value.run(graph).graph == text.run(graph).graph


def test_an_empty_pipeline_returns_the_graph() -> None:
    graph = fills(2)
    result = PassManager("").run(graph)
    assert result.graph is graph
    assert (result.summary.status, result.summary.input_verdict, result.summary.passes) == ("ok", "proved", ())


def test_hooks_are_called_in_order() -> None:
    calls: list[str] = []
    late, early = Recorder(calls, "late: "), EarlyRecorder(calls, "early: ")
    PassManager("test-add,test-nothing", [late, early]).run(fills(1))
    assert calls == [
        f"{label}: {hook}"
        for hook in (
            "before pipeline",
            "before 1 test-add",
            "after 1 test-add",
            "before 2 test-nothing",
            "after 2 test-nothing",
            "after pipeline",
        )
        for label in ("early", "late")
    ]


def test_skipped_passes_get_no_other_hook() -> None:
    calls: list[str] = []
    graph = fills(1)
    result = PassManager("test-add,test-add,test-add", [Recorder(calls), StopAfter(1)]).run(graph)
    assert calls[3:] == ["skipped 2 test-add", "skipped 3 test-add", "after pipeline"]
    assert values(result.graph) == [1]
    assert [record.verdict for record in result.summary.passes] == ["unchecked", "skipped", "skipped"]
    assert result.summary.passes[2].nodes == 1


@pytest.mark.parametrize("pipeline", ["test-add,test-fail,test-add", "test-add,test-reverse,test-add"])
def test_a_failure_ends_the_pipeline(pipeline: str) -> None:
    calls: list[str] = []
    with pytest.raises(PassFailure):
        PassManager(pipeline, [Recorder(calls), *lenient()]).run(fills(3))
    assert [call for call in calls if "failed" in call or "3" in call or "pipeline" in call] == [
        "before pipeline",
        f"failed 2 {pipeline.split(',')[1]}",
    ]


def test_summary() -> None:
    summary = PassManager("test-drop{keep=1},test-nothing").run(fills(3)).summary
    dropped, nothing = summary.passes
    assert (dropped.ordinal, dropped.name, dropped.text, dropped.options) == (
        1,
        "test-drop",
        "test-drop{keep=1}",
        {"keep": 1},
    )
    assert (dropped.nodes, dropped.dependencies) == (3, {"full": 1, "programmatic": 0, "launch_order": 0})
    assert dropped.statistics == {"dropped": 1, "seen": 1}
    assert dropped.applications == {"test-drop": 1}
    assert dropped.remarks == ["dependency n1 -> n2: dropped"]
    assert (dropped.changed, nothing.changed) == (True, False)
    assert (summary.status, summary.graph, summary.pipeline) == ("ok", "fills", "test-drop{keep=1},test-nothing")
    assert summary.input_dependencies == {"full": 2, "programmatic": 0, "launch_order": 0}
    assert summary.seconds >= sum(r.seconds + r.verification_seconds for r in summary.passes) > 0
    assert dropped.verification_seconds > 0
    assert summary.verification_seconds == sum(r.verification_seconds for r in summary.passes)


def test_only_graphs_are_accepted() -> None:
    with pytest.raises(InvalidInput, match="a pipeline runs on a Graph, not on a str"):
        PassManager("").run("graph")  # type: ignore[arg-type]


def test_an_invalid_input_is_no_fault_of_a_pass() -> None:
    broken = Graph("broken", dependencies=[Dependency("a", "b")])
    calls: list[str] = []
    with pytest.raises(InvalidInput, match="graph 'broken' is not valid"):
        PassManager("test-nothing", [*default_instruments(), Recorder(calls)]).run(broken)
    assert calls == []


def test_exceptions_are_wrapped() -> None:
    found = failure(fills(2), "test-add,test-fail")
    assert isinstance(found.__cause__, KeyError)
    assert found.exit_status == 4
    assert found.headline == "pass 2 of 2, test-fail: it raised KeyError: 'lost'"
    text = str(found)
    assert 'infra_samples.py", line' in text
    assert "at apply, " in text


def test_errors_of_forerun_keep_their_exit_status() -> None:
    found = failure(fills(2), "test-fail{how=unsupported}")
    assert isinstance(found.__cause__, Unsupported)
    assert found.exit_status == 3
    assert "what is wrong:\n  fills are not supported\n  hint: use copies\n" in str(found)


def test_a_pass_must_return_a_graph() -> None:
    found = failure(fills(2), "test-fail{how=none}")
    assert found.exit_status == 4
    assert found.headline == "pass 1 of 1, test-fail{how=none}: it returned a NoneType, not a Graph"
    assert "hint: return graph if there is nothing to do" in str(found)
    assert "what changed:\n  nothing: it returned no graph" in str(found)


def test_a_refuted_graph_has_exit_status_1() -> None:
    found = failure(overwritten(), "test-nothing,test-drop")
    assert isinstance(found.__cause__, Refuted)
    assert found.exit_status == 1
    assert found.headline == "pass 2 of 2, test-drop: the graph that it returned is refuted"
    assert found.diagnostics


def test_a_race_in_the_input_may_be_repaired_later() -> None:
    @dataclass(frozen=True)
    class Order(Pass):
        """Puts the order back."""

        name: ClassVar[str] = "test-order"

        def apply(self, graph: Graph, context: PassContext) -> Graph:
            edit = graph.edit()
            edit.set_dependency(Dependency("first", "second"))
            return edit.commit()

    racy = PassManager("test-drop", []).run(overwritten()).graph
    result = PassManager(Pipeline([Add(), Order(), Nothing()])).run(racy)
    assert result.summary.input_verdict == "refuted"
    assert [record.verdict for record in result.summary.passes] == ["unsupported", "proved", "unchanged"]


@pytest.mark.parametrize("pipeline", ["test-nothing", "test-add,test-nothing", "test-nothing,test-add"])
def test_a_race_in_the_result_is_refused(pipeline: str) -> None:
    racy = PassManager("test-drop", []).run(overwritten()).graph
    found = failure(racy, pipeline)
    assert found.exit_status == 1
    assert "hint: the graph was refuted before this pass" in str(found)


def test_a_race_is_refused_without_any_pass() -> None:
    racy = PassManager("test-drop", []).run(overwritten()).graph
    with pytest.raises(Refuted, match="graph 'overwritten' is refuted"):
        PassManager("").run(racy)


class Broken(Instrument):
    verifies: ClassVar[bool] = True

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        raise ZeroDivisionError("oh")


def test_a_check_that_raises_is_told_apart() -> None:
    with pytest.raises(PassFailure, match="pass 1 of 1, test-add: the check after it raised ZeroDivisionError: oh"):
        PassManager("test-add", [Broken()]).run(fills(1))


class Full(Instrument):
    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        raise InvalidInput("the disk is full")


def test_other_instruments_do_not_blame_the_pass() -> None:
    with pytest.raises(InvalidInput, match="the disk is full") as caught:
        PassManager("test-add", [Full()]).run(fills(1))
    assert not isinstance(caught.value, PassFailure)


class TakeLast:
    def choose(self, candidates: Sequence[Graph]) -> Assessment:
        return Assessment(len(candidates) - 1, "it spills")


@dataclass(frozen=True)
class Candidates(Pass):
    """Offers candidates."""

    name: ClassVar[str] = "test-candidates"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        from forerun.support.diagnostics import Location

        strong = Add(5).apply(graph, PassContext(Add(5)))
        return context.choose([strong, graph], Location("graph", graph.name))


def test_the_assessor_reaches_the_passes() -> None:
    graph = fills(1)
    pipeline = Pipeline([Candidates()])
    assert values(PassManager(pipeline, lenient()).run(graph).graph) == [5]
    result = PassManager(pipeline, assessor=TakeLast()).run(graph)
    assert result.graph is graph
    assert result.summary.passes[0].remarks == ["graph fills: candidate 2 of 2 chosen: it spills"]


def test_an_invalid_graph_has_exit_status_4() -> None:
    found = failure(fills(2), "test-add,test-reverse")
    assert isinstance(found.__cause__, InternalError)
    assert found.exit_status == 4
    assert found.headline == "pass 2 of 2, test-reverse: it returned an invalid graph"
    assert "G3" in {d.code for d in found.diagnostics}
