"""The index of exposed accesses against a plain list, and how little it looks at."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.semantics import ByteSet, NodeAccess, reaching_accesses
from forerun.ir.semantics.alike import Bundle
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


@st.composite
def histories(draw: st.DrawFn) -> list[NodeAccess]:
    """Accesses of nodes of which each has one or two; some may be certain, some are released."""
    found = []
    for number in range(draw(st.integers(0, 25))):
        for _ in range(draw(st.integers(1, 2))):
            certain, released, write = draw(
                st.tuples(st.booleans(), st.sampled_from([False] * 3 + [True]), st.booleans())
            )
            reach = draw(byte_sets())
            found.append(NodeAccess(f"n{number}", "a", "b", reach, write, certain=certain, released=released))
    return found


@given(histories(), st.sampled_from([0, 3, 16]))
def test_it_finds_what_a_list_holds(history: list[NodeAccess], few: int) -> None:
    """Some are given together; these are like the first of them in all that is asked of that one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaching_accesses, "_FEW", few)
        exposed, plain = ReachingAccesses(history), list[NodeAccess]()
        given, found, bundles = [], 0, 0
        for name, accesses in groupby(history, key=lambda access: access.node):
            own = list(accesses)
            for access in own:
                expected = [a for a in plain if (a.write or access.write) and access.bytes.overlaps(a.bytes)]
                reached = exposed.conflicting(access)
                given.append((reached, expected))
                for part, nodes in reached:
                    assert part.count(nodes) == len(members := [member for _, member in part.of(nodes)])
                    assert {(m.write, m.released) for m in members} == {(part.first.write, part.first.released)}
                    if isinstance(part, Bundle) and access.certain and access.bytes.exact:
                        assert not any(member.certain and member.bytes.exact for member in members)
                    bundles += isinstance(part, Bundle)
                found += len(expected)
            for access in own:
                if access.write and access.definite:
                    exposed.cover(access)
                    plain = [a for a in plain if not access.bytes.covers(a.bytes)]
            for access in own:
                exposed.add(int(name[1:]), access)
                if not access.bytes.is_empty:
                    plain.append(access)
        # What was given stays what it was, whatever came or went since.
        for reached, expected in given:
            members = sorted((member for part, nodes in reached for member in part.of(nodes)), key=itemgetter(0))
            assert [access for _, access in members] == expected
    event(f"conflicts: {min(found // 10, 5)}0s, bundles: {min(bundles, 9)}")


def test_many_that_overlap_many_are_given_together() -> None:
    """Whole blocks of which some bytes are touched, and ranges in them: a few parts for each."""
    count = 1000
    history = []
    for number in range(count):
        block, part = ByteSet(0, 64 * count), ByteSet(64 * number, 64 * number + 96)
        history.append(NodeAccess(f"n{2 * number}", "a", "block", block, True, certain=False))
        history.append(
            NodeAccess(f"n{2 * number + 1}", "a", f"v{number}", part, number % 3 > 0, certain=number % 5 > 0)
        )
    exposed = ReachingAccesses(history)
    parts = pairs = 0
    for position, access in enumerate(history):
        reached = exposed.conflicting(access)
        parts += len(reached)
        pairs += sum(part.count(nodes) for part, nodes in reached)
        exposed.add(position, access)
    assert pairs > count**2
    assert parts < 30 * count


@pytest.mark.parametrize("strided_first", [True, False])
def test_sets_between_the_runs_of_others_are_not_given_with_them(strided_first: bool) -> None:
    """Their hulls overlap, and nothing else does: [0, 2), [8, 10) and so on, 20 of them, and [4, 6) between."""
    runs = [ByteSet(8 * at, 8 * at + 154, run=2, levels=((20, 8),)) for at in range(40)]
    between = [ByteSet(8 * at + 4, 8 * at + 6) for at in range(40)]
    first, second = (runs, between) if strided_first else (between, runs)
    earlier = [NodeAccess(f"n{at}", "a", "b", reach, True) for at, reach in enumerate(first)]
    exposed = ReachingAccesses(earlier)
    for position, access in enumerate(earlier):
        exposed.add(position, access)
    for reach in second:
        assert exposed.conflicting(NodeAccess("later", "a", "b", reach, True, certain=False)) == ()


def test_thousands_of_views_of_one_arena_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Counter[str]()
    for name in ("overlaps", "covers"):
        original = getattr(ByteSet, name)
        monkeypatch.setattr(ByteSet, name, lambda a, b, f=original, n=name: (looks.update([n]), f(a, b))[1])
    count = 2000
    whole = NodeAccess("first", "arena", "all", ByteSet(0, 64 * count), True)
    writes = [NodeAccess(f"n{i}", "arena", f"v{i}", ByteSet(64 * i, 64 * i + 64), True) for i in range(count)]
    reads = [NodeAccess(f"r{i}", "arena", f"v{i}", access.bytes, False) for i, access in enumerate(writes)]
    exposed = ReachingAccesses([whole, *writes, *reads])
    exposed.add(0, whole)
    for number, (access, read) in enumerate(zip(writes, reads, strict=True)):
        assert [alike.first.node for alike, _ in exposed.conflicting(access)] == ["first"]
        exposed.cover(access)
        exposed.add(number + 1, access)
        exposed.add(number + 1, read)
    assert looks["overlaps"] <= 4 * count
    assert looks["covers"] <= 4 * count


@given(byte_sets(), byte_sets(), st.integers(-50, 50))
def test_moving_both_sets_changes_nothing(a: ByteSet, b: ByteSet, distance: int) -> None:
    assert a.moved(distance).overlaps(b.moved(distance)) == a.overlaps(b)
    assert a.moved(distance).covers(b.moved(distance)) == a.covers(b)
    assert a.moved(distance).moved(-distance) == a
