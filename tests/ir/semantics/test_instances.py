"""Values of symbols under which two sets meet, against all small values."""

from __future__ import annotations

from itertools import product

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.affine import Affine, affine
from forerun.ir.semantics import ByteSet
from forerun.ir.semantics.instances import can_meet

VIEW = (4, 20)
BOUNDS = (0, 4)


@st.composite
def sets(draw: st.DrawFn) -> tuple[Affine, Affine]:
    """The ends of a range of bytes that depend on up to two symbols."""
    start = affine(draw(st.integers(-4, 20)))
    for symbol in draw(st.sets(st.sampled_from("pq"))):
        start = start + affine(symbol) * draw(st.sampled_from([-4, 1, 4, 8]))
    length = affine(draw(st.integers(0, 8))) + affine("q") * draw(st.sampled_from([0, 0, 4]))
    return start, start + length


@given(sets(), sets())
def test_values_that_are_found_are_right(a: tuple[Affine, Affine], b: tuple[Affine, Affine]) -> None:
    first, second = (ByteSet(s.constant, t.constant, s.terms, t.terms) for s, t in (a, b))
    found = can_meet(first, VIEW, second, VIEW, lambda _: BOUNDS)

    def fits(values: dict[str, int]) -> bool:
        (s, t), (u, v) = ([end.substitute(values).constant for end in ends] for ends in (a, b))
        inside = VIEW[0] <= s < t <= VIEW[1] and VIEW[0] <= u < v <= VIEW[1]
        return inside and max(s, u) < min(t, v)

    exist = any(fits(dict(zip("pq", values, strict=True))) for values in product(range(BOUNDS[1] + 1), repeat=2))
    event(f"exist: {exist}, found: {found}")
    assert exist or not found


def test_values_are_found_that_bring_a_row_to_a_place() -> None:
    row = ByteSet(0, 64, (("p", 64),), (("p", 64),))
    view, bounds = (0, 64 * 1000), (0, 1 << 31)
    assert can_meet(row, view, ByteSet(64 * 777, 64 * 777 + 4), view, lambda _: bounds)
    assert not can_meet(row, view, ByteSet(64 * 777, 64 * 777 + 4), view, lambda _: (0, 776))
    assert not can_meet(row, view, ByteSet(64 * 1000, 64 * 1001), (0, 64 * 1001), lambda _: bounds)
