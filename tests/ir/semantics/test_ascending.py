"""Regions between elements of buffers that ascend, against all values that these elements can have together."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.phases import kernel, phase
from forerun.ir.semantics import accesses, check
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.trust import vouch
from forerun.ir.verify import verify
from forerun.support.diagnostics import InvalidInput

vouch(__name__)

ROWS, ELEMENTS = 3, 4

ASCENDING = [np.array(values, np.int32) for values in combinations_with_replacement(range(1, ROWS + 2), ELEMENTS)]
"""All values of a pointer."""

End = tuple[str, int, int]
"""A pointer, an index, and what is added to the element."""


@phase(reads="x", writes="y[begin:end]")
def fill_rows(x, begin, end):  # type: ignore[no-untyped-def]
    return np.repeat(x, end - begin)


FILL = kernel("fill_rows", "x: i32[1], y: i32[N], begin: scalar i32, end: scalar i32", fill_rows)


def graph_of(*regions: tuple[End, End], after: list[list[str]] | None = None) -> Graph:
    """A graph whose nodes fill rows of ``y`` between elements of ``p`` and of ``q``, in no order but the one given."""
    builder = forerun.GraphBuilder("ragged")
    for name in "pq":
        builder.input(name, "i32", ELEMENTS, bounds=(1, ROWS + 1), ascending=True)
    builder.state("y", "i32", ROWS + 2)
    for number, ends in enumerate(regions):
        builder.input(f"x{number}", "i32", 1)
        begin, end = (ScalarLoad(*which) for which in ends)
        order = [] if after is None else after[number]
        builder.launch(FILL, node=f"n{number}", x=f"x{number}", y="y", begin=begin, end=end, after=order)
    return builder.build()


def byte_sets(graph: Graph) -> list[ByteSet]:
    return [a.bytes for found in accesses(graph).values() for a in found if a.buffer == "y"]


def rows_of(ends: tuple[End, End], values: dict[str, np.ndarray]) -> set[int]:
    begin, end = (int(values[pointer][index]) + added for pointer, index, added in ends)
    return set(range(begin, end))


ends = st.tuples(st.sampled_from("ppq"), st.integers(0, ELEMENTS - 1), st.sampled_from([0, 0, 0, 1, -1]))
regions = st.tuples(ends, ends)


@given(regions, regions)
def test_overlap_and_cover_are_right_for_all_values(first: tuple[End, End], second: tuple[End, End]) -> None:
    a, b = byte_sets(graph_of(first, second))
    found = [
        (rows_of(first, values), rows_of(second, values))
        for values in (dict(zip("pq", pair, strict=True)) for pair in product(ASCENDING, ASCENDING))
    ]
    meet = any(one & other for one, other in found)
    event(f"meet: {meet}, known: {a.overlaps(b) == meet}")
    assert a.overlaps(b) or not meet
    assert a.meets(b) is not False or not meet
    if a.covers(b):
        assert all(other <= one for one, other in found if other)
    begin, end = first
    same = len({pointer for which in (first, second) for pointer, _, _ in which}) == 1
    plain = not any(added for which in (first, second) for _, _, added in which)
    if same and plain and begin[1] <= end[1] and second[0][1] <= second[1][1]:
        assert a.overlaps(b) == meet
        assert a.covers(b) == all(other <= one for one, other in found)


plain_ends = st.tuples(st.sampled_from("ppq"), st.integers(0, ELEMENTS - 1), st.just(0))


@given(st.tuples(plain_ends, plain_ends), st.tuples(plain_ends, plain_ends))
def test_verdicts_are_right_for_all_values(first: tuple[End, End], second: tuple[End, End]) -> None:
    graph = graph_of(first, second)
    verdict = check(graph).status
    event(verdict)
    meets = any(
        rows_of(first, values) & rows_of(second, values)
        for values in (dict(zip("pq", pair, strict=True)) for pair in product(ASCENDING, ASCENDING))
    )
    if verdict == "proved":
        assert not meets
    if verdict == "refuted":
        assert meets


@given(st.permutations(range(ELEMENTS)), st.sampled_from(ASCENDING), st.integers(0, 2**16))
def test_disjoint_groups_run_in_any_order(order: list[int], pointer: np.ndarray, seed: int) -> None:
    starts = [index for index in order if index < ELEMENTS - 1]
    graph = graph_of(*((("p", index, 0), ("p", index + 1, 0)) for index in starts))
    assert check(graph).proved
    inputs = {f"x{number}": np.array([index + 1], np.int32) for number, index in enumerate(starts)}
    with forerun.compile(graph, pipeline="", target=forerun.ReferenceTarget("adversarial", seed)) as program:
        program(p=pointer, q=pointer, **inputs)
        y = program.read("y")
    for index in starts:
        assert (y[pointer[index] : pointer[index + 1]] == index + 1).all()


def test_groups_that_share_a_request_race() -> None:
    graph = graph_of((("p", 0, 0), ("p", 2, 0)), (("p", 1, 0), ("p", 3, 0)))
    assert check(graph).status == "refuted"
    assert check(graph_of((("p", 0, 0), ("p", 2, 0)), (("p", 1, 0), ("p", 3, 0)), after=[[], ["n0"]])).proved


def test_elements_of_two_pointers_cannot_be_compared() -> None:
    assert check(graph_of((("p", 0, 0), ("p", 1, 0)), (("q", 1, 0), ("q", 2, 0)))).status == "refuted"


def test_the_text_form_keeps_it() -> None:
    graph = graph_of((("p", 0, 0), ("p", 1, 0)))
    text = print_graph(graph)
    assert "buffer %p : i32[4] input in 1..4 ascending\n" in text
    assert parse_graph(text) == graph
    assert verify(graph) == []


@pytest.mark.parametrize("target", [None, forerun.ReferenceTarget("adversarial", 1)])
def test_targets_refuse_what_does_not_ascend(target: forerun.ReferenceTarget | None) -> None:
    graph = graph_of((("p", 0, 0), ("p", 1, 0)))
    values = {"p": np.array([1, 3, 2, 4], np.int32), "q": np.ones(4, np.int32), "x0": np.zeros(1, np.int32)}
    message = "input '%p' must ascend, but element 2 is 2, below 3 before it"
    with (
        forerun.compile(graph, target=target or "reference") as program,
        pytest.raises(InvalidInput, match=re.escape(message)),
    ):
        program(**values)
