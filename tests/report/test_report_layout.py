"""Layout: nothing overlaps, edges run downwards, and cards meet at their borders."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.report.layout import NODE_HEIGHT, NODE_WIDTH, lay_out, port_positions


@st.composite
def cards(draw):
    count = draw(st.integers(1, 12))
    pairs = [(u, v) for v in range(count) for u in range(v)]
    edges = sorted(draw(st.sets(st.sampled_from(pairs), max_size=20))) if pairs else []
    nodes = st.integers(0, count - 1)
    tops = draw(st.lists(st.lists(nodes, min_size=1, max_size=3, unique=True), max_size=4))
    bottoms = draw(st.lists(nodes, max_size=4))
    return count, edges, tops, bottoms


@given(cards())
def test_nodes_do_not_overlap_and_lie_inside(card):
    layout = lay_out(*card)
    for (x1, y1), (x2, y2) in combinations(layout.centers, 2):
        assert abs(x1 - x2) >= NODE_WIDTH or abs(y1 - y2) >= NODE_HEIGHT
    for x, y in layout.centers:
        assert layout.left <= x - NODE_WIDTH / 2
        assert x + NODE_WIDTH / 2 <= layout.right
        assert NODE_HEIGHT / 2 <= y <= layout.height - NODE_HEIGHT / 2


@given(cards())
def test_edges_run_downwards_from_source_to_target(card):
    edges = card[1]
    layout = lay_out(*card)
    event(f"edges over several ranks: {any(len(route) > 2 for route in layout.routes)}")
    for (source, target), route in zip(edges, layout.routes, strict=True):
        (x1, y1), (x2, y2) = layout.centers[source], layout.centers[target]
        assert route[0] == (x1, y1 + NODE_HEIGHT / 2)
        assert route[-1] == (x2, y2 - NODE_HEIGHT / 2)
        assert all(upper[1] < lower[1] for upper, lower in pairwise(route))


@given(cards())
def test_wires_enter_and_leave_at_the_ports(card):
    _, _, tops, bottoms = card
    layout = lay_out(*card)
    entries = [x for x, targets in zip(port_positions(len(tops)), tops, strict=True) for _ in targets]
    assert [route[0] for route in layout.from_top] == [(x, 0.0) for x in entries]
    assert [route[-1] for route in layout.to_bottom] == [(x, layout.height) for x in port_positions(len(bottoms))]


def test_a_chain_is_a_straight_column():
    layout = lay_out(5, [(i, i + 1) for i in range(4)], [[0]], [4])
    assert {x for x, _ in layout.centers} == {0.0}


def test_a_diamond_has_no_crossing_and_is_symmetric():
    layout = lay_out(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    xs = [x for x, _ in layout.centers]
    assert xs[0] == pytest.approx(xs[3])
    assert xs[1] + xs[2] == pytest.approx(2 * xs[0])


def test_crossings_that_can_be_avoided_are():
    layout = lay_out(6, [(0, 5), (1, 4), (2, 3)])
    order = sorted(range(3), key=lambda n: layout.centers[n][0])
    below = sorted(range(3, 6), key=lambda n: layout.centers[n][0])
    assert [5 - n for n in order] == below


def test_many_ports_stay_within_a_page():
    assert max(port_positions(500)) < 400
