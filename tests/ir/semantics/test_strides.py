"""Arithmetic on strided sets against sets of single integers."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.semantics import ByteSet
from forerun.ir.semantics.strides import MAX_STEPS, Levels, _floor_sum, _Search, contains, meet

_HUGE = 1 << 40


def members(levels: Levels, run: int) -> set[int]:
    """Each integer of a set that starts at 0."""
    starts = (sum(at) for at in product(*(range(0, count * stride, stride) for count, stride in levels)))
    return {start + i for start in starts for i in range(run)}


@st.composite
def nested(draw: st.DrawFn) -> tuple[Levels, int]:
    """Levels as regions of a buffer have them: each stride at least as long as what is inside."""
    length = run = draw(st.integers(1, 5))
    levels: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 3))):
        count, stride = draw(st.integers(1, 5)), length + draw(st.integers(0, 6))
        levels.append((count, stride))
        length = (count - 1) * stride + length
    return tuple(reversed(levels)), run


_any_levels = st.tuples(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 24)), max_size=3).map(tuple), st.integers(1, 6)
)
_sets = st.one_of(nested(), _any_levels)


@given(_sets, _sets, st.integers(-150, 150))
def test_sets_meet_if_they_have_an_integer_in_common(
    first: tuple[Levels, int], second: tuple[Levels, int], distance: int
) -> None:
    common = members(*first) & {distance + i for i in members(*second)}
    event(f"meet: {bool(common)}, levels: {len(first[0]) + len(second[0])}")
    assert meet(*first, *second, distance) is bool(common)


@given(_sets, _sets, st.integers(-10, 60))
def test_what_is_said_to_be_contained_is(outer: tuple[Levels, int], inner: tuple[Levels, int], distance: int) -> None:
    inside = {distance + i for i in members(*inner)} <= members(*outer)
    found = contains(*outer, *inner, distance)
    event(f"inside: {inside}, found: {found}")
    assert inside or not found


@given(nested(), st.data())
def test_some_levels_of_a_set_and_shorter_ones_are_contained(outer: tuple[Levels, int], data: st.DataObject) -> None:
    levels, run = outer
    distance, kept = 0, []
    for count, stride in levels:
        first = data.draw(st.integers(0, count - 1))
        step = data.draw(st.integers(1, 3))
        kept.append(((count - first - 1) // step + 1, stride * step))
        distance += first * stride
    assert contains(levels, run, tuple(kept), run, distance)


@given(_any_levels, _any_levels, st.integers(-60, 60))
def test_a_million_million_rows_are_compared_as_a_few_are(
    first: tuple[Levels, int], second: tuple[Levels, int], distance: int
) -> None:
    """Rows of one pitch around two small sets: beyond the first rows, all looks the same."""
    pitch = 1 + max((sum((n - 1) * s for n, s in levels) + run for levels, run in (first, second))) + abs(distance)

    def rows(count: int) -> bool | None:
        inside = ((count, pitch), *first[0]), first[1], ((count, pitch), *second[0]), second[1]
        return meet(*inside, distance)

    assert rows(_HUGE) is rows(3)


@pytest.mark.parametrize(("pitch", "other"), [(7, 11), (12, 18), (4099, 4096), (30_011, 30_013)])
def test_rows_of_two_pitches_meet_where_their_multiples_do(pitch: int, other: int) -> None:
    for count in (1, 5, other, _HUGE):
        meets_at_0 = meet(((count, pitch),), 1, ((count, other),), 1, 0)
        assert meets_at_0 is True
        some = next((i for i in range(min(count, other)) if (i * pitch - 3) % other == 0 and i * pitch - 3 >= 0), None)
        expected = some is not None and (some * pitch - 3) // other < count
        assert meet(((count, pitch),), 1, ((count, other),), 1, 3) is expected


def test_a_knapsack_is_given_up_in_time() -> None:
    numbers = tuple((2, (1 << 60) + pow(3, i, (1 << 61) - 1)) for i in range(1, 60))
    half = sum(stride for _, stride in numbers) // 2
    search = _Search()
    assert search.reaches(numbers, half, half) is None
    assert search._steps == MAX_STEPS + 1
    sums = ByteSet(0, 2 * half + 2, run=1, levels=numbers)
    byte = ByteSet(half, half + 1)
    assert sums.meets(byte) is None
    assert sums.overlaps(byte)


def test_views_of_many_dimensions_take_few_steps() -> None:
    levels = tuple((3, 5**i) for i in reversed(range(1, 20)))
    search = _Search()
    highest = sum((count - 1) * stride for count, stride in levels)
    assert search.reaches((*levels, *levels), highest + 5**9 // 2, highest + 5**9 // 2) is False
    assert search._steps <= 4 * len(levels)


@given(st.integers(0, 20), st.integers(1, 12), st.integers(-30, 30), st.integers(-30, 30))
def test_a_floor_sum_is_a_sum_of_floors(n: int, m: int, a: int, b: int) -> None:
    assert _floor_sum(n, m, a, b) == sum((a * i + b) // m for i in range(n))
