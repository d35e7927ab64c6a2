"""What is proved holds, whatever was changed: checks and certificates against runs and against single bytes.

The graphs are those of ``forerun.testing``, with bodies, host calls and several element types.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, MemsetNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.region import BufferView
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.verify import verify
from forerun.testing import assert_same_outputs, graphs
from tests.literal import judge
from tests.testing.changes import changed

pytestmark = pytest.mark.slow

MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
ALL_KINDS = ("kernel", "copy", "fill", "empty", "event", "host", "child", "conditional")
PLAIN_KINDS = ("kernel", "copy", "fill", "empty", "child", "conditional")
CHOOSERS = st.integers(0, 9999).map(Random)
"""Not ``st.randoms()``: Hypothesis likes small numbers, and the changes are to be various."""


@MANY
@given(graphs(nodes=ALL_KINDS), CHOOSERS)
def test_what_is_proved_computes_the_same(graph: Graph, chooser: Random) -> None:
    after, what = changed(graph, chooser)
    assume(not verify(after) and all_loops_end(after))
    assert parse_graph(print_graph(after)) == after
    meaning, rewrite = check(after), certify(graph, after)
    event(f"{what}: {rewrite.status}")
    assert meaning.proved or not rewrite.proved
    if meaning.proved:
        assert_same_outputs(after, after, seeds=range(4))
    if rewrite.proved:
        assert_same_outputs(graph, after, seeds=range(4))


@MANY
@given(graphs(nodes=PLAIN_KINDS), CHOOSERS)
def test_verdicts_agree_with_single_bytes(graph: Graph, chooser: Random) -> None:
    after, _ = changed(graph, chooser)
    assume(not verify(after))
    truth, verdict = judge(after), check(after)
    event(f"{'free of races' if truth.proved else 'not'}: {verdict.status}")
    assert truth.proved or not verdict.proved
    # Where the ends of a range are unknown, the checker is strict; but it calls nothing wrong that is not.
    assert verdict.status != "refuted" or not truth.proved


def test_all_verdicts_occur_on_changes_of_bodies() -> None:
    seen: Counter[tuple[str, str]] = Counter()

    @settings(MANY, max_examples=400, database=None, derandomize=True)
    @given(graphs(nodes=("fill", "conditional"), max_nodes=3) | graphs(nodes=("fill", "child"), max_nodes=3), CHOOSERS)
    def run(graph: Graph, chooser: Random) -> None:
        after, what = changed(graph, chooser)
        if what.startswith("in ") and not verify(after):
            seen[what.partition(":")[0], certify(graph, after).status] += 1

    run()
    owners = ("in child", "in if", "in switch", "in while")
    assert {owner for owner, _ in seen} == set(owners)
    for status in ("proved", "refuted", "unsupported"):
        assert sum(count for (_, found), count in seen.items() if found == status) >= 3, seen


def all_loops_end(graph: Graph) -> bool:
    """Whether each ``while`` still ends with the fill that stops it."""
    for node in graph:
        if isinstance(node, ConditionalNode):
            stops = list(node.bodies[0])[-1:] == [MemsetNode("stop", BufferView(node.condition), 0)]
            if node.kind == "while" and not stops:
                return False
            if not all(map(all_loops_end, node.bodies)):
                return False
        elif isinstance(node, ChildGraphNode) and not all_loops_end(node.body):
            return False
    return True
