"""Pictures: every dependency is drawn, layers that look alike are drawn once, and the rest is looked up by name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from forerun.frontends.decode import synthetic_decode_graph
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import EmptyNode, KernelNode
from forerun.ir.types import DependencyKind
from forerun.report import graph_svg
from forerun.report.cards import NO_MARKS, Marks, changes, make_cards
from forerun.report.picture import NameTables, draw_picture, legend


def empties(names, edges=()):
    nodes = [EmptyNode(name) for name in names]
    dependencies = [Dependency(*edge) for edge in edges]
    return Graph("g", nodes=nodes, dependencies=dependencies)


def layered(layers, *, odd=None):
    """A node, layers of six nodes, and a node in a chain; in layer ``odd`` one dependency is of another kind."""
    names = ["first", *(f"blk.{layer}.n{i}" for layer in range(layers) for i in range(6)), "last"]
    kinds = [DependencyKind.FULL] * len(names)
    if odd is not None:
        kinds[odd * 6 + 3] = DependencyKind.LAUNCH_ORDER
    return empties(names, [(a, b, kind) for a, b, kind in zip(names, names[1:], kinds, strict=False)])


def drawn_edges(markup):
    return Counter(re.findall(r'class="edge (\w+)', markup))


def test_every_dependency_of_a_small_graph_is_drawn_in_the_colour_of_its_kind():
    kinds = list(DependencyKind)
    graph = empties("abcd", [("a", "b", kinds[0]), ("a", "c", kinds[1]), ("b", "d", kinds[2]), ("c", "d", kinds[0])])
    picture = draw_picture(graph)
    assert drawn_edges(picture) == {"full": 2, "programmatic": 1, "launch_order": 1}
    for name in "abcd":
        assert f">{name}</text>" in picture
    assert "a → c\nprogrammatic" in picture


def test_layers_that_look_alike_are_drawn_once():
    picture = draw_picture(layered(30))
    assert picture.count("data-n=") == 1 + 6 + 1
    assert picture.count("data-like=") == 29
    assert "blk.1 … blk.29" in picture
    assert re.search("29 . 6 nodes", picture)


def test_a_layer_that_differs_is_drawn_too():
    picture = draw_picture(layered(30, odd=7))
    assert picture.count("data-n=") == 1 + 6 + 6 + 1
    assert "blk.1 … blk.6" in picture
    assert "<b>blk.7</b>" in picture
    assert "blk.8 … blk.29" in picture


def test_the_first_and_last_layer_look_like_the_others():
    looks = [card.look for card in make_cards(layered(5), NO_MARKS)]
    assert len(looks) == 7
    assert len(set(looks[1:-1])) == 1
    assert looks[0] != looks[-1]


def test_folded_cards_name_the_nodes_that_they_stand_for():
    tables = NameTables()
    graph = layered(4)
    picture = draw_picture(graph, tables=tables)
    assert tables.tables == [list(graph.nodes)]
    folded = re.findall(r'data-first="(\d+)" data-prefix="([^"]*)" data-tops="([^"]*)"', picture)
    assert folded == [("7", "blk.1.", "6"), ("13", "blk.2.", "12"), ("19", "blk.3.", "18")]


def test_tables_are_shared_by_graphs_with_the_same_names():
    tables = NameTables()
    draw_picture(layered(4), tables=tables)
    draw_picture(layered(4, odd=1), tables=tables)
    draw_picture(layered(5), tables=tables)
    assert [len(table) for table in tables.tables] == [26, 32]


def test_dependencies_between_distant_cards_are_stubs():
    names = [f"blk.{layer}.n{i}" for layer in range(8) for i in range(6)]
    graph = empties([*names, "last"], [(f"blk.{layer}.n5", "last") for layer in range(8)])
    picture = draw_picture(graph)
    assert "blk.0.n5 → last" in picture
    assert picture.count("full far") == 2  # one drawn layer, and the last node
    assert ">7</text>" in picture  # seven come from afar; the eighth is a wire from the card before


@pytest.mark.parametrize(
    "edges",
    [
        [("b", "a")],
        [("a", "nowhere"), ("nowhere", "b")],
        [("a", "a")],
    ],
    ids=["backwards", "dangling", "loop"],
)
def test_broken_graphs_are_drawn(edges):
    picture = draw_picture(empties("ab", edges))
    assert picture.count("data-n=") == 2
    assert " → ".join(edges[0]) in picture


def test_an_empty_graph_is_said_to_be_empty():
    assert draw_picture(Graph("g")) == '<p class="note">No nodes.</p>'


def test_a_kernel_shows_its_steps_with_what_comes_before_the_wait():
    steps = (Phase("load"), Phase("more"), Wait(), Phase("compute"), Trigger())
    kernel = Kernel("k", (), (Role("all", steps),))
    picture = draw_picture(Graph("g", kernels=[kernel], nodes=[KernelNode("n", "k")]))
    signs = re.findall(r'class="(early|phase|wait|trigger)"', picture)
    assert signs == ["early", "early", "wait", "phase", "trigger"]
    assert "all: load · more · [wait] · compute · [trigger]" in picture


def test_without_a_wait_nothing_is_early():
    kernel = Kernel("k", (), (Role("all", (Phase("a"), Phase("b"))),))
    picture = draw_picture(Graph("g", kernels=[kernel], nodes=[KernelNode("n", "k")]))
    assert "early" not in picture


def test_a_black_box_and_a_missing_kernel_say_so():
    graph = Graph("g", kernels=[Kernel("box")], nodes=[KernelNode("a", "box"), KernelNode("b", "gone")])
    picture = draw_picture(graph)
    assert "black box" in picture
    assert "no such kernel" in picture


def test_names_are_escaped():
    evil = '"><script>alert(1)</script>'
    graph = empties([evil, "b"], [(evil, "b")])
    assert "<script" not in draw_picture(graph)


def test_changes_mark_what_differs_on_each_side():
    before = empties("abcde", [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")])
    after = empties("abcde", [("a", "b"), ("b", "c"), ("c", "d"), ("c", "e")])
    old, new = changes(before, after)
    assert old == Marks(frozenset(), frozenset({("d", "e")}))
    assert new == Marks(frozenset(), frozenset({("c", "e")}))
    assert draw_picture(after, new).count('class="halo"') == 1


def test_changed_kernels_mark_their_nodes():
    kernel = Kernel("k", (), (Role("all", (Phase("a"),)),))
    nodes = [KernelNode("n", "k"), EmptyNode("e"), EmptyNode("f")]
    before = Graph("g", kernels=[kernel], nodes=nodes)
    after = Graph("g", kernels=[kernel.with_roles("k", (Role("all", (Phase("b"),)),))], nodes=nodes)
    assert changes(before, after)[1].nodes == {"n"}


def test_what_changed_is_marked_where_everything_changed_too():
    before = empties("abc", [("a", "b"), ("b", "c")])
    after = Graph(
        "g", nodes=before, dependencies=[replace(d, kind=DependencyKind.PROGRAMMATIC) for d in before.dependencies]
    )
    pairs = frozenset({("a", "b"), ("b", "c")})
    assert changes(before, after) == (Marks(pairs=pairs), Marks(pairs=pairs))
    assert draw_picture(after, changes(before, after)[1]).count('class="halo"') == 2


def test_a_card_with_a_fault_is_drawn_for_itself_and_open():
    names = ["in", *(f"blk.{i}.{n}" for i in range(30) for n in "abcdef"), "out"]
    picture = draw_picture(empties(names), Marks(faults=frozenset({"blk.7.c"})))
    (fault,) = re.findall(r'<g class="node other fault" data-n="2">', picture)
    before = picture[: picture.index(fault)]
    assert before[before.rindex("<details") :].startswith('<details class="card" open')
    assert "<b>blk.7</b>" in before[before.rindex("<summary") :]


def test_a_graph_is_a_file_on_its_own():
    names = ["in", *(f"blk.{i}.<{n}>" for i in range(30) for n in "abcdef"), "out"]
    root = ET.fromstring(graph_svg(empties(names, list(pairwise(names))), title="<b>"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "<b>"
    assert "blk.1 … blk.29 · 29 × 6 nodes" in texts  # noqa: RUF001
    assert texts.count("<c>") == 1
    assert ET.fromstring(graph_svg(Graph("nothing"))).tag.endswith("svg")


def test_two_thousand_nodes_stay_small():
    graph = synthetic_decode_graph(2000)
    picture = draw_picture(graph)
    assert len(graph) >= 2000
    assert picture.count("data-n=") < 40
    assert len(picture) < 120_000


def test_a_large_graph_without_repeats_is_drawn_in_part_and_listed():
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [x + y + z for x in letters for y in letters for z in letters][:3000]
    picture = draw_picture(empties(names))
    assert 800 <= picture.count("data-n=") < 900
    assert all(name in picture for name in names)


def test_stream_order_of_a_builder_is_a_column():
    builder = GraphBuilder("g")
    for name in "abc":
        builder.add(EmptyNode(name))
    picture = draw_picture(builder.build())
    assert drawn_edges(picture) == {"full": 2}


def test_the_legend_explains_every_kind():
    assert all(f'class="edge {kind}"' in legend() for kind in DependencyKind)
