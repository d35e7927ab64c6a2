"""What follows from the times that kernels noted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode
from forerun.runtime.timeline import Range, lanes, timeline_of
from forerun.support.diagnostics import InvalidInput
from tests.measure.steps import chain, made_up, records


def test_times_count_from_the_first_start() -> None:
    timeline = made_up()
    a, b, c = timeline.nodes
    assert [node.name for node in timeline.nodes] == ["a", "b", "c"]
    assert (a.kernel, a.ctas, a.sms, a.most_on_one_sm) == ("copy_f32", 2, 2, 1)
    assert (b.sms, b.most_on_one_sm) == (1, 2)
    assert a.range("start") == Range(0, 10)
    assert (a.range("wait"), c.range("trigger")) == (None, None)
    assert b.range("wait") == Range(1150, 1200)
    assert b.range("trigger") == Range(950, 960)
    assert c.end.tolist() == [3000, 2900]
    assert (a.works, b.begins, b.works, b.ends) == (0, 900, 1150, 2500)


def test_gaps_overlaps_and_shares() -> None:
    timeline = made_up()
    a, b, c = timeline.nodes
    assert timeline.nanoseconds == 3000
    assert [timeline.gap(node) for node in (a, b, c)] == [0, 50, 50]
    assert [timeline.overlap(node) for node in (a, b, c)] == [0, 200, 1000]
    assert timeline.shares == {"a": 1100, "b": 1400, "c": 500}
    assert timeline.untimed == 1


def test_dependencies_look_through_what_has_no_times() -> None:
    a, b, c = made_up().nodes
    assert a.after == ()
    assert b.after == (("a", "full"),)
    assert dict(c.after) == {"a": "full", "b": "programmatic"}


def test_nodes_that_did_not_run_are_left_out() -> None:
    found = records()
    found["b"][:] = 0
    timeline = timeline_of(chain(), found)
    assert [node.name for node in timeline.nodes] == ["a", "c"]
    assert timeline.untimed == 2
    assert timeline.shares == {"a": 1100, "c": 1900}
    for rows in found.values():
        rows[:] = 0
    with pytest.raises(InvalidInput, match="no kernel has noted its times"):
        timeline_of(chain(), found)


def test_nodes_of_bodies_have_paths() -> None:
    inner = chain()
    body = Graph("body", nodes=inner.nodes.values(), dependencies=inner.dependencies)
    tables = inner.allocations.values(), inner.buffers.values(), inner.kernels.values()
    graph = Graph("outer", *tables, [ChildGraphNode("child", body)])
    timeline = timeline_of(graph, {f"child/{name}": rows for name, rows in records().items()})
    assert [node.name for node in timeline.nodes] == ["child/a", "child/b", "child/c"]
    assert dict(timeline.nodes[2].after) == {"child/a": "full", "child/b": "programmatic"}
    assert timeline.untimed == 1


times = st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 5_000)), min_size=1, max_size=20)


@given(times)
def test_shares_are_the_step_and_lanes_do_not_overlap(spans: list[tuple[int, int]]) -> None:
    ends = [(start, start + length) for start, length in spans]
    lane_of = lanes(ends)
    for i, (first, stop) in enumerate(ends):
        for j in range(i):
            if lane_of[i] == lane_of[j]:
                assert stop <= ends[j][0] or ends[j][1] <= first
    assert len(set(lane_of)) == max(sum(a <= first < b for a, b in ends) for first, _ in ends)
    base = made_up()
    names = [node.name for node in base.nodes]
    rows = {n: np.array([[1 + a, 0, 0, 1 + b, 0]], np.uint64) for n, (a, b) in zip(names, ends, strict=False)}
    timeline = timeline_of(chain(), rows)
    assert sum(timeline.shares.values()) == timeline.nanoseconds
    assert min(timeline.shares.values()) >= 0


def test_json() -> None:
    told = json.loads(json.dumps(made_up().to_json()))
    assert (told["format"], told["graph"], told["nanoseconds"]) == ("forerun timeline 1", "chain", 3000)
    a, b, c = told["nodes"]
    assert (a["wait"], c["trigger"]) == (None, None)
    assert b["start"] == [900, 990]
    assert b["after"] == [{"source": "a", "kind": "full"}]
    assert [node["lane"] for node in told["nodes"]] == [0, 1, 0]
    assert [node["share"] for node in told["nodes"]] == [1100, 1400, 500]
