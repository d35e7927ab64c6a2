"""Bisection finds the planted fault, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from infra_samples import Add, Drop, Join, Nothing, fills, overwritten, values

from forerun.ir.graph import Graph
from forerun.ir.nodes import MemsetNode
from forerun.ir.semantics import check
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument.bisect import bisect
from forerun.support.diagnostics import InvalidInput


@dataclass(frozen=True)
class Plant(Pass):
    """Sets each value to 1, but one to 99."""

    name: ClassVar[str] = "test-plant"
    statistics: ClassVar[Mapping[str, str]] = {}

    where: int = option(0, help="which node")
    asks: bool = option(True, help="whether it asks before each change")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for i, node in enumerate(graph):
            if isinstance(node, MemsetNode) and (not self.asks or context.should_apply()):
                edit.replace_node(replace(node, value=99 if i == self.where else 1))
        return edit.commit()


def is_good(graph: Graph) -> bool:
    return 99 not in values(graph)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 19))
def test_the_planted_change_is_found(earlier: int, later: int, where: int) -> None:
    pipeline = Pipeline([*[Join(3)] * min(earlier, 1), *[Nothing()] * (earlier - 1), Plant(where), *[Drop()] * later])
    found = bisect(fills(20), pipeline, is_good)
    assert found is not None
    assert (found.ordinal, found.total, found.subject) == (earlier + 1, earlier + later + 1, Plant(where))
    assert (found.application, found.applications) == (where + 1, 20)
    assert is_good(found.before)
    assert not is_good(found.after)
    assert values(found.after) == [1] * where + [99] + [0] * (19 - where)
    assert found.tests <= 2 + 4 + 5


def test_it_asks_as_seldom_as_binary_search_does() -> None:
    pipeline = Pipeline([Add()] * 40 + [Plant(3, asks=False)] + [Drop(keep) for keep in range(18, -1, -1)])
    found = bisect(fills(20), pipeline, is_good)
    assert found is not None
    assert found.ordinal == 41
    assert found.tests <= 2 + 6


def test_a_pass_that_does_not_ask_is_found_as_a_whole() -> None:
    found = bisect(fills(3), Pipeline([Plant(2, asks=False)]), is_good)
    assert found is not None
    assert (found.application, found.applications) == (None, 0)
    assert (values(found.before), values(found.after)) == ([0, 0, 0], [1, 1, 99])
    assert str(found) == "pass 1 of 1, test-plant{where=2,asks=false}, turns a good graph into a bad one (2 tests)"


@dataclass(frozen=True)
class HalfAsking(Plant):
    """Does the wrong thing without asking, then asks for the rest."""

    name: ClassVar[str] = "test-half-asking"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        context.should_apply()
        return Plant(0, asks=False).apply(graph, context)


def test_a_pass_that_is_bad_without_any_granted_change_is_found_as_a_whole() -> None:
    found = bisect(fills(3), Pipeline([HalfAsking()]), is_good)
    assert found is not None
    assert (found.application, found.applications) == (None, 1)


def test_the_change_is_told() -> None:
    found = bisect(overwritten(), "test-nothing,test-drop", lambda graph: check(graph).status != "refuted")
    assert str(found) == "pass 2 of 2, test-drop, change 1 of 1, turns a good graph into a bad one (2 tests)"


def test_a_good_pipeline_has_no_culprit() -> None:
    assert bisect(fills(3), "test-add,test-drop", is_good) is None
    assert bisect(fills(3), "test-nothing", is_good) is None
    assert bisect(fills(3), "", is_good) is None


def test_the_input_must_be_good() -> None:
    with pytest.raises(InvalidInput, match="bad before the first pass"):
        bisect(fills(3), "test-add", lambda graph: False)


def test_what_a_pass_raises_comes_out() -> None:
    with pytest.raises(KeyError):
        bisect(fills(3), "test-fail", is_good)
