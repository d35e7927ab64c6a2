"""Affine expressions: arithmetic agrees with that of integers, and the text is readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.ir.affine import Affine, affine
from forerun.ir.region import WHOLE, region

NAMES = "xyz"
EXPRESSIONS = st.recursive(
    st.one_of(st.integers(-9, 9).map(affine), st.sampled_from(NAMES).map(affine)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
        st.tuples(inner, st.integers(-5, 5)).map(lambda pair: pair[0] * pair[1]),
    ),
    max_leaves=6,
)
VALUES = st.fixed_dictionaries({name: st.integers(-7, 7) for name in NAMES})


@given(EXPRESSIONS, EXPRESSIONS, st.integers(-5, 5), VALUES)
def test_arithmetic_is_that_of_integers(a: Affine, b: Affine, factor: int, values: dict[str, int]) -> None:
    assert (a + b).evaluate(values) == a.evaluate(values) + b.evaluate(values)
    assert (a - b).evaluate(values) == a.evaluate(values) - b.evaluate(values)
    assert (factor * a).evaluate(values) == factor * a.evaluate(values)
    assert (3 - a).evaluate(values) == 3 - a.evaluate(values)


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_equal_values_are_equal_objects(a: Affine, b: Affine, c: Affine) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a - a == Affine()
    assert hash(a + b) == hash(b + a)


@given(EXPRESSIONS, VALUES, VALUES)
def test_bounds_hold(a: Affine, first: dict[str, int], second: dict[str, int]) -> None:
    ranges = {name: (min(first[name], second[name]), max(first[name], second[name])) for name in NAMES}
    low, high = a.bounds(ranges)
    assert low is not None
    assert high is not None
    assert low <= a.evaluate(first) <= high
    assert low <= a.evaluate(second) <= high


@given(EXPRESSIONS, EXPRESSIONS, VALUES)
def test_substitution(a: Affine, b: Affine, values: dict[str, int]) -> None:
    assert a.substitute({"x": b}).evaluate(values) == a.evaluate({**values, "x": b.evaluate(values)})


def test_an_unknown_symbol_is_unbounded() -> None:
    assert affine("x").bounds({}) == (None, None)
    with pytest.raises(KeyError):
        affine("x").evaluate({})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (affine(0), "0"),
        (affine(-3), "-3"),
        (affine("x"), "x"),
        (-affine("x"), "-x"),
        (affine("x") - 1, "x - 1"),
        (2 * affine("x") - 3 * affine("y") + 4, "2*x - 3*y + 4"),
    ],
)
def test_text(value: Affine, text: str) -> None:
    assert str(value) == text


def test_regions_say_what_they_are() -> None:
    assert str(WHOLE) == ""
    assert str(region((0, "n"), None)) == "[0:n, :]"
    assert region(("b", affine("a") + 1), (0, 2)).symbols == ("a", "b")
    assert region(None, None).is_whole
