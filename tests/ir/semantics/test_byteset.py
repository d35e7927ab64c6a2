"""Byte sets against the bytes that NumPy-like enumeration finds."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.affine import affine
from forerun.ir.buffer import Buffer, Paged
from forerun.ir.region import WHOLE, Region, Slice, region
from forerun.ir.semantics import ByteSet, bytes_of
from forerun.ir.types import BufferRole, DType


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Buffer, Region, set[int]]:
    """A buffer, a constant region of it, and its bytes one by one."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    dtype = draw(st.sampled_from([DType.U8, DType.F16, DType.F32]))
    offset = draw(st.integers(0, 6)) * dtype.itemsize
    buffer = Buffer("b", dtype, shape, BufferRole.TEMP, "a", offset)
    slices: list[Slice | None] = []
    ranges = []
    for axis, extent in enumerate(shape):
        start = draw(st.integers(0, extent))
        stop = draw(st.integers(start, extent))
        whole = draw(st.booleans())
        given_axis = axis < len(shape) - 1 or draw(st.booleans())
        if whole or not given_axis:
            start, stop = 0, extent
        if given_axis:
            slices.append(None if whole else Slice(affine(start), affine(stop)))
        ranges.append(range(start, stop))
    found = set()
    for index in product(*ranges):
        flat = 0
        for i, extent in zip(index, shape, strict=True):
            flat = flat * extent + i
        found |= set(range(offset + flat * dtype.itemsize, offset + (flat + 1) * dtype.itemsize))
    return buffer, Region(tuple(slices)), found


@given(boxes(), boxes())
def test_overlap_and_cover_are_exact_for_constant_boxes(
    a: tuple[Buffer, Region, set[int]], b: tuple[Buffer, Region, set[int]]
) -> None:
    set_a, set_b = bytes_of(a[0], a[1]), bytes_of(b[0], b[1])
    event(f"overlap: {bool(a[2] & b[2])}, strided: {bool(set_a.levels)}")
    assert set_a.overlaps(set_b) == bool(a[2] & b[2])
    assert set_a.exact
    if set_a.covers(set_b):
        assert b[2] <= a[2]
    elif not set_a.levels and b[2]:
        assert not b[2] <= a[2]


@given(boxes(), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_symbolic_rows_are_disjoint_exactly_when_their_ends_meet(
    box: tuple[Buffer, Region, set[int]], shift_a: int, shift_b: int, length: int
) -> None:
    buffer = box[0]
    row = affine("pos")
    a = bytes_of(buffer, region((row + shift_a, row + shift_a + length)))
    b = bytes_of(buffer, region((row + shift_b, row + shift_b + length)))
    common = set(range(shift_a, shift_a + length)) & set(range(shift_b, shift_b + length))
    assert a.overlaps(b) == bool(common)
    assert a.covers(b) == (a == b or length == 0)


def test_past_rows_do_not_touch_the_row_that_is_appended() -> None:
    cache = Buffer("k", DType.F32, (64, 3, 16), BufferRole.STATE, "k")
    past = bytes_of(cache, region((0, "pos")))
    row = bytes_of(cache, region(("pos", affine("pos") + 1)))
    other = bytes_of(cache, region(("q", affine("q") + 1)))
    assert not past.overlaps(row)
    assert past.overlaps(other), "nothing is known of another scalar"
    assert row.overlaps(bytes_of(cache, WHOLE))


def test_one_head_of_a_row_is_exact_even_at_a_symbolic_position() -> None:
    cache = Buffer("k", DType.F32, (64, 3, 16), BufferRole.STATE, "k")
    heads = [bytes_of(cache, region(("pos", affine("pos") + 1), (h, h + 1))) for h in range(3)]
    assert not heads[0].overlaps(heads[1])
    assert heads[1].overlaps(heads[1])
    assert bytes_of(cache, region(("pos", affine("pos") + 1))).covers(heads[2])


def test_a_symbolic_number_of_partial_rows_is_its_hull() -> None:
    cache = Buffer("k", DType.F32, (64, 3, 16), BufferRole.STATE, "k")
    head = bytes_of(cache, region((0, "pos"), (1, 2)))
    assert not head.exact
    assert head.overlaps(bytes_of(cache, region((0, 64), (1, 2))))


def test_paged_extents_are_unknown() -> None:
    pages = Buffer("k", DType.F32, (8, 16), BufferRole.STATE, "k", 32, Paged("table", 16))
    found = bytes_of(pages, region((0, 1)))
    assert (found.start, found.stop, found.exact) == (32, 32 + 8 * 16 * 4, False)


@pytest.mark.parametrize("rows", [1 << 16, (1 << 16) + 1, 1 << 17, 1 << 40])
def test_columns_of_any_number_of_rows_are_told_apart(rows: int) -> None:
    matrix = Buffer("b", DType.U8, (rows, 4), BufferRole.TEMP, "a")
    left, middle, both = (bytes_of(matrix, region(None, bounds)) for bounds in ((0, 1), (1, 3), (0, 2)))
    assert left.meets(middle) is False
    assert middle.meets(both) is True
    assert both.covers(left)
    assert not both.covers(middle)


def test_columns_of_a_symbolic_number_of_rows_are_told_apart() -> None:
    matrix = Buffer("m", DType.F32, (64, 3, 16), BufferRole.STATE, "m")
    heads = [bytes_of(matrix, region((2, "n"), (h, h + 1), (4, 8))) for h in range(3)]
    assert heads[0].meets(heads[1]) is False
    assert heads[1].meets(heads[1]) is None, "n may be 2"
    assert not heads[1].covers(heads[1])
    assert not bytes_of(matrix, region((2, 3), (0, 1))).covers(heads[0])


def test_a_column_at_an_unknown_position_may_be_any_column() -> None:
    matrix = Buffer("m", DType.F32, (4, 4), BufferRole.STATE, "m")
    anywhere = bytes_of(matrix, region(None, ("p", affine("p") + 1)))
    for column in range(4):
        known = bytes_of(matrix, region(None, (column, column + 1)))
        assert anywhere.overlaps(known)
        assert known.overlaps(anywhere)


def test_a_column_covers_itself() -> None:
    matrix = Buffer("m", DType.F32, (4, 4), BufferRole.STATE, "m")
    first, again, second = (bytes_of(matrix, region(None, (i, i + 1))) for i in (0, 0, 1))
    assert first.covers(again)
    assert not first.covers(second)


def test_no_columns_are_no_bytes() -> None:
    matrix = Buffer("m", DType.F32, (4, 4), BufferRole.STATE, "m")
    for bounds in ((2, 2), ("p", "p")):
        nothing = bytes_of(matrix, region(None, bounds))
        assert nothing.is_empty
        assert not nothing.overlaps(bytes_of(matrix, WHOLE))


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (ByteSet(0, 16), "[0, 16)"),
        (ByteSet(4, 8, (("pos", 64),), (("pos", 64),)), "[64*pos + 4, 64*pos + 8)"),
        (ByteSet(0, 20, run=4, levels=((2, 16),)), "[0, 20) in runs of 4"),
    ],
)
def test_text(bytes_: ByteSet, text: str) -> None:
    assert str(bytes_) == text
