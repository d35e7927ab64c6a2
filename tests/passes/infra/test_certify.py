"""Certify: what a pass breaks is refused, what is not understood is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from infra_samples import Add, Nothing, fills, overwritten

from forerun.ir.diagnostics import Diagnostic, Location
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import MemsetNode
from forerun.ir.region import BufferView
from forerun.ir.semantics import Verdict
from forerun.passes.base import Pass, PassContext
from forerun.passes.failure import PassFailure
from forerun.passes.instrument import Certify
from forerun.passes.manager import PassManager
from forerun.passes.pipeline import Pipeline


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


def test_what_is_not_understood_is_told_and_goes_on() -> None:
    record = PassManager("test-add,test-nothing").run(fills(10)).summary.passes[0]
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
