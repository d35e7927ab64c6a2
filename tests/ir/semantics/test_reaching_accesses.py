"""The index of exposed accesses against a plain list, and how little it looks at."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.semantics import ByteSet, NodeAccess
from forerun.ir.semantics.reaching_accesses import ReachingAccesses

_TERMS = st.sampled_from([(), (("p", 4),), (("q", 1),)])


@st.composite
def byte_sets(draw: st.DrawFn) -> ByteSet:
    start, length = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    terms = draw(_TERMS)
    if draw(st.integers(0, 3)) == 0:
        return ByteSet(start, start + length, terms, draw(_TERMS))
    if draw(st.integers(0, 3)) == 0:
        return ByteSet(start, start + 18, terms, terms, run=2, levels=((3, 8),))
    return ByteSet(start, start + length, terms, terms, exact=draw(st.booleans()))


@given(st.lists(st.tuples(byte_sets(), st.booleans()), max_size=25))
def test_it_finds_what_a_list_holds(items: list[tuple[ByteSet, bool]]) -> None:
    exposed, plain = ReachingAccesses(), list[NodeAccess]()
    found = 0
    for number, (reach, write) in enumerate(items):
        access = NodeAccess(f"n{number}", "a", "b", reach, write)
        expected = [a for a in plain if (a.write or write) and reach.overlaps(a.bytes)]
        members = sorted(member for alike, nodes in exposed.conflicting(access) for member in alike.of(nodes))
        assert [a for _, a in members] == expected
        found += len(expected)
        if write:
            exposed.cover(access)
            plain = [a for a in plain if not reach.covers(a.bytes)]
        exposed.add(number, access)
        plain.append(access)
    event(f"conflicts: {min(found // 10, 5)}0s")


def test_thousands_of_views_of_one_arena_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Counter[str]()
    for name in ("overlaps", "covers"):
        original = getattr(ByteSet, name)
        monkeypatch.setattr(ByteSet, name, lambda a, b, f=original, n=name: (looks.update([n]), f(a, b))[1])
    exposed, count = ReachingAccesses(), 2000
    exposed.add(0, NodeAccess("first", "arena", "all", ByteSet(0, 64 * count), True))
    for number in range(count):
        access = NodeAccess(f"n{number}", "arena", f"v{number}", ByteSet(64 * number, 64 * number + 64), True)
        assert [alike.first.node for alike, _ in exposed.conflicting(access)] == ["first"]
        exposed.cover(access)
        exposed.add(number + 1, access)
        exposed.add(number + 1, NodeAccess(f"r{number}", "arena", f"v{number}", access.bytes, False))
    assert looks["overlaps"] <= 4 * count
    assert looks["covers"] <= 4 * count


@given(byte_sets(), byte_sets(), st.integers(-50, 50))
def test_moving_both_sets_changes_nothing(a: ByteSet, b: ByteSet, distance: int) -> None:
    assert a.moved(distance).overlaps(b.moved(distance)) == a.overlaps(b)
    assert a.moved(distance).covers(b.moved(distance)) == a.covers(b)
    assert a.moved(distance).moved(-distance) == a
