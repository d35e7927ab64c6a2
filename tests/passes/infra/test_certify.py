"""Certify: what a pass breaks is refused, what is not understood is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from infra_samples import Add, Nothing, fills, lenient, overwritten

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import MemsetNode
from forerun.ir.region import BufferView
from forerun.ir.semantics import Verdict
from forerun.ir.text import parse_graph
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.summary import PassRecord
from forerun.passes.instrument import Certify, Instrument, PassRun, PipelineRun
from forerun.support.diagnostics import Diagnostic, Location, Unsupported


@dataclass(frozen=True)
class Swap(Pass):
    """Runs the second node first."""

    name: ClassVar[str] = "test-swap"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        second, first = graph
        tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
        return Graph(graph.name, *tables, [first, second], [Dependency(first.name, second.name)])


@dataclass(frozen=True)
class Forget(Pass):
    """Drops the first node: its write is lost, though another one writes the same bytes."""

    name: ClassVar[str] = "test-forget"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        edit.remove_node(next(iter(graph.nodes)))
        return edit.commit()


@dataclass(frozen=True)
class Another(Pass):
    """Adds a fill that changes what is read from outside."""

    name: ClassVar[str] = "test-another"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        edit.add_node(MemsetNode("another", BufferView("o"), 7))
        edit.set_dependency(Dependency(list(graph.nodes)[-1], "another"))
        return edit.commit()


def failure(graph: Graph, subject: Pass) -> PassFailure:
    with pytest.raises(PassFailure) as caught:
        PassManager(Pipeline([subject])).run(graph)
    return caught.value


@pytest.mark.parametrize(("subject", "code"), [(Swap(), "C3"), (Another(), "C8"), (Another(), "C2")], ids=str)
def test_a_valid_graph_that_means_something_else_is_refused(subject: Pass, code: str) -> None:
    found = failure(overwritten(), subject)
    assert found.exit_status == 1
    assert found.headline == f"pass 1 of 1, {subject}: the graph that it returned does not mean the same"
    assert code in {d.code for d in found.diagnostics}
    assert f"[{code}]: node " in str(found)


def test_a_lost_write_is_refused() -> None:
    found = failure(overwritten(), Forget())
    assert "error[C1]: graph overwritten: the write of 'first' to %o bytes [0, 16) is lost" in str(found)


def test_a_proof_is_not_lost_silently() -> None:
    found = failure(fills(2), Add())
    assert found.exit_status == 3
    assert isinstance(found.__cause__, Unsupported)
    assert found.headline == (
        "pass 1 of 1, test-add: the graph that it got was proved, "
        "and it cannot be shown that the one that it returned means the same"
    )
    text = str(found)
    assert "warning[C7]: node n0: is not the node that it was: another value" in text
    assert "hint: keep to what a certificate understands (docs/writing-a-pass.md, 'What a certificate needs')" in text
    assert "or accept the loss: instruments=default_instruments(allow_unsupported=True)" in text


def test_the_record_of_a_lost_proof() -> None:
    records: list[PassRecord] = []

    class Keep(Instrument):
        def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
            records.append(step.record)

    with pytest.raises(PassFailure):
        PassManager("test-add", [Keep(), Certify()]).run(fills(2))
    assert [record.verdict for record in records] == ["unsupported"]


def with_black_box() -> Graph:
    """Two launches of a black box that may race, as it is not known what they write, and a fill."""
    return parse_graph(
        "forerun 1\ngraph boxes\nbuffer %s : f32[4] state\nbuffer %y : u32[4] output\n"
        "kernel @box(x: f32[4]) opaque\nnode #a = @box(x=%s)\nnode #b = @box(x=%s)\nnode #fill = fill %y with 0\n"
    )


def test_what_was_not_proved_before_has_nothing_to_lose() -> None:
    summary = PassManager("test-add").run(with_black_box()).summary
    assert summary.input_verdict == "unsupported"
    (record,) = summary.passes
    assert record.verdict == "unsupported"
    assert record.remarks[0] == "warning[C7]: node fill: is not the node that it was: another value"


def test_the_default_pipeline_runs_on_graphs_with_black_boxes() -> None:
    result = PassManager("exact").run(with_black_box())
    assert result.summary.input_verdict == "unsupported"
    assert result.graph.dependency("a", "b") is not None
    again = PassManager("exact").run(result.graph)
    assert (again.summary.input_verdict, again.summary.status) == ("proved", "ok")


def test_what_is_not_understood_is_told_and_goes_on_if_that_is_allowed() -> None:
    record = PassManager("test-add,test-nothing", lenient()).run(fills(10)).summary.passes[0]
    assert record.verdict == "unsupported"
    assert len(record.remarks) == 9
    assert record.remarks[0] == "warning[C7]: node n0: is not the node that it was: another value"
    assert record.remarks[-1] == "... and 2 more findings"


def test_the_certifier_can_be_replaced() -> None:
    seen = []

    def certifier(before: Graph, after: Graph) -> Verdict:
        seen.append((before, after))
        return Verdict("refuted", (Diagnostic("X1", "no", Location("graph", "fills")),))

    graph = fills(2)
    with pytest.raises(PassFailure, match=r"error\[X1\]: graph fills: no"):
        PassManager(Pipeline([Nothing(), Add()]), [Certify(certifier)]).run(graph)
    assert [before for before, _ in seen] == [graph]


def test_a_schedule_shows_the_race() -> None:
    with pytest.raises(PassFailure) as caught:
        PassManager("test-drop").run(overwritten())
    assert "  witness: a schedule that nothing prevents:\n" in str(caught.value)
