"""Captured graphs whose memory is put elsewhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forerun.captured import CapturedNode, Transfer
from forerun.captured.moved import moved_capture
from forerun.frontends.captured import import_capture
from forerun.ir.text import print_graph
from tests.captured.samples import BLOCKS, SIZE, chain, graphs
from tests.captured.samples import captured as captured_graph

SPANS = [(address, address + SIZE) for address in BLOCKS.values()]
PLACES = [0x6000_0000_0000 - (number << 24) for number in range(len(SPANS))]


@given(graphs())
def test_there_and_back(graph):  # type: ignore[no-untyped-def]
    spans = [(memory.address, memory.stop) for memory in graph.memory]
    places = [(1 << 50) - (number << 36) for number in range(len(spans))]
    moved = moved_capture(graph, spans, places)
    assert [one.size for one in moved.memory] == [one.size for one in reversed(graph.memory)]
    back = [(place, place + end - begin) for (begin, end), place in zip(spans, places, strict=True)]
    assert moved_capture(moved, back, [begin for begin, _ in spans]) == graph


def test_what_it_means_stays() -> None:
    graph = chain()
    moved = moved_capture(graph, SPANS, [address + (1 << 44) for address in BLOCKS.values()])
    assert moved != graph
    assert print_graph(import_capture(moved).graph) == print_graph(import_capture(graph).graph)


@given(st.integers(0, SIZE - 1), st.sampled_from(sorted(BLOCKS)))
def test_pointers_into_the_middle(offset: int, name: str) -> None:
    word = (BLOCKS[name] + offset).to_bytes(8, "little")
    outside = (BLOCKS[name] + SIZE).to_bytes(8, "little")
    node = CapturedNode("kernel", 0, parameters=(b"\x01\0\0\0", b"\xff" * 8 + word, outside))
    copy = CapturedNode("memcpy", transfer=Transfer(BLOCKS[name] + offset, 64, 1))
    found = moved_capture(captured_graph([], [node, copy]), SPANS, PLACES)
    place = PLACES[list(BLOCKS).index(name)] + offset
    assert found.nodes[0].parameters == (b"\x01\0\0\0", b"\xff" * 8 + place.to_bytes(8, "little"), outside)
    assert found.nodes[1].transfer == Transfer(place, 64, 1)
