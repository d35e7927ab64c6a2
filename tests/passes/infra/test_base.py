"""What a pass is: declarations, help, the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
from infra_samples import Add, Drop, Fail, Nothing, Optioned, fills

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Assessment, Pass, PassContext, Strongest
from forerun.support.diagnostics import InternalError, InvalidInput, Location, Severity

PLACE = Location("graph", "fills")


def test_help_derives_from_the_declaration() -> None:
    assert Drop.summary() == "Drops dependencies between fills."
    assert Drop.help() == (
        "test-drop: Drops dependencies between fills.\n"
        "\n"
        "It does not look at what they are for.\n"
        "\n"
        "Options:\n"
        "  keep=int  how many stay (default: 0)\n"
        "\n"
        "Statistics:\n"
        "  dropped  dependencies dropped\n"
        "  seen     dependencies looked at"
    )
    assert Nothing.help() == "test-nothing: Does nothing."


def test_options_are_shown_where_they_differ() -> None:
    assert str(Optioned()) == "test-options"
    assert str(Optioned(flag=True, text="a b", max_count=2)) == 'test-options{flag=true,text="a b",max-count=2}'
    assert Optioned(flag=True).options() == {
        "flag": True,
        "count": 3,
        "ratio": 0.5,
        "text": "",
        "mode": "fast",
        "colour": "red",
        "max_count": None,
    }


def test_options_set_in_python_are_checked() -> None:
    with pytest.raises(InvalidInput, match="pass 'test-drop': option 'keep' cannot be '3'"):
        Drop(keep="3")  # type: ignore[arg-type]


def test_names_are_checked() -> None:
    with pytest.raises(InternalError, match="Shout: 'SHOUT' cannot be a name"):

        class Shout(Nothing):
            name: ClassVar[str] = "SHOUT"


def test_a_pass_needs_a_name() -> None:
    @dataclass(frozen=True)
    class Anonymous(Pass):
        """Has none."""

        def apply(self, graph: Graph, context: PassContext) -> Graph:
            return graph

    with pytest.raises(InternalError, match="has no name"):
        Anonymous()


def test_a_pass_is_a_dataclass() -> None:
    class Plain(Nothing):
        """Forgot the decorator."""

    with pytest.raises(InternalError, match="Plain is not a dataclass"):
        Plain()


def test_counting() -> None:
    context = PassContext(Drop())
    context.count("dropped", 2)
    context.count("dropped")
    context.observe("seen", 5)
    assert context.statistics == {"dropped": 3, "seen": 5}
    assert context.changes == 3


def test_what_is_counted_is_declared() -> None:
    with pytest.raises(InternalError) as caught:
        PassContext(Drop()).count("droped")
    assert str(caught.value) == "pass 'test-drop' declares no statistic 'droped'\nhint: did you mean 'dropped'?"
    with pytest.raises(InternalError, match="there are none"):
        PassContext(Nothing()).observe("x")


def test_remarks_are_notes() -> None:
    context = PassContext(Drop())
    context.remark("kept", PLACE)
    (remark,) = context.remarks
    assert (remark.code, remark.message, remark.severity) == ("test-drop", "kept", Severity.NOTE)


def test_applications_are_counted_and_limited() -> None:
    context = PassContext(Add(), limit=3)
    assert [context.should_apply(rule) for rule in ("a", "b", "", "a", "")] == [True, True, True, False, False]
    assert context.applications == {"a": 1, "b": 1, "test-add": 1}
    assert not PassContext(Add(), limit=0).should_apply()


class TakeLast:
    def choose(self, candidates: Sequence[Graph]) -> Assessment:
        return Assessment(len(candidates) - 1, "it spills")


def test_an_assessor_chooses_among_candidates() -> None:
    strong, weak = fills(1), fills(2)
    context = PassContext(Add(), TakeLast())
    assert context.choose([strong, weak], PLACE) is weak
    assert [r.message for r in context.remarks] == ["candidate 2 of 2 chosen: it spills"]
    context = PassContext(Add())
    assert isinstance(context.assessor, Strongest)
    assert context.choose([strong, weak], PLACE) is strong
    assert not context.remarks


def test_apply_is_a_function_that_tests_can_call() -> None:
    graph = fills(3)
    context = PassContext(Drop(keep=1))
    assert len(Drop(keep=1).apply(graph, context).dependencies) == 1
    assert len(graph.dependencies) == 2
    with pytest.raises(KeyError):
        Fail().apply(graph, PassContext(Fail()))
