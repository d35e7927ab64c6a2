"""Costs are fitted to times."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.schedules.attention import Attention
from forerun.schedules.calibration import fitted_costs
from forerun.support.diagnostics import InvalidInput

NUMBER = st.floats(0.1, 20)
TILES = st.fixed_dictionaries(
    {16: st.tuples(NUMBER, NUMBER), 64: st.tuples(NUMBER, NUMBER), 128: st.tuples(NUMBER, NUMBER)}
)


@given(TILES, st.sampled_from([1e-9, 1.0, 1e6]))
def test_exact_lines_are_found_in_any_unit(lines, unit):
    blocks = (1, 2, 7, 100)
    found = fitted_costs({tile: [(n, unit * (a + b * n)) for n in blocks] for tile, (a, b) in lines.items()})
    cheapest = min(b for _, b in lines.values())
    for tile, (a, b) in lines.items():
        for n in blocks:
            expected = (a + b * n) / cheapest
            assert (found[tile].fixed + found[tile].per_block * n) / 64 == pytest.approx(expected, rel=0.02)
    assert Attention(8, 1, 64, 16, 10, found).costs == found


@given(st.integers(0, 100))
def test_noise_of_a_tenth_moves_them_by_little(seed):
    chooser = random.Random(seed)
    pairs = [(n, (3 + 2 * n) * chooser.uniform(0.9, 1.1)) for n in range(1, 200)]
    costs = fitted_costs({16: pairs})[16]
    assert costs.fixed / costs.per_block == pytest.approx(1.5, abs=0.4)


def test_a_fixed_time_below_zero_is_zero():
    assert fitted_costs({16: [(1, 1.0), (2, 3.0)]})[16].fixed == 0


@pytest.mark.parametrize(
    "samples",
    [
        {},
        {16: []},
        {16: [(1, 1.0), (1, 2.0)]},
        {16: [(1, 1.0), (2, float("nan"))]},
        {16: [(1, 1.0), (2, float("inf"))]},
        {16: [(0, 1.0), (2, 2.0)]},
        {16: [(1, -1.0), (2, 2.0)]},
        {16: [(1, 5.0), (9, 1.0)]},
        {16: [(1, 1.0), (2, 2.0)], 64: [(1, 1e9), (2, 2e9)]},
    ],
)
def test_samples_that_say_nothing_are_refused(samples):
    with pytest.raises(InvalidInput):
        fitted_costs(samples)
