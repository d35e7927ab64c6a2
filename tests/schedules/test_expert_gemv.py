"""The second family: products of ragged rows with their experts' weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import Invariant
from forerun.schedules.execution import Workspace, execute
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.expert_gemv_runner import ExpertGemvRunner
from forerun.schedules.policies import POLICIES
from forerun.schedules.postcondition import assert_postcondition
from forerun.schedules.schedule import POISON, capacity_for, make_schedule
from forerun.support.diagnostics import InvalidInput
from tests.schedules.batches import ADVERSARY, CTAS, CUTS, POLICY, adversary

FAMILY = ExpertGemv(experts=4, outputs=100, columns=700)
COUNTS = st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any)
W = np.random.default_rng(0).standard_normal((4, 100, 700)).astype(np.float32)


def run(counts, x, cuts, ctas, policy, choose):
    capacity = capacity_for(FAMILY, 4, len(x), 0, ctas, cuts)
    batch = ExpertBatch(np.array([*np.cumsum([0, *counts]), POISON], np.int32))
    schedule = make_schedule(FAMILY, batch, capacity, POLICIES[policy], cuts)
    assert_postcondition(schedule, FAMILY.tasks(batch), cuts if cuts.is_invariant else None)
    runner = ExpertGemvRunner(FAMILY, batch, W, x)
    execute(schedule, runner, Workspace(capacity, runner.slot_floats), choose)
    return runner.y


def rows(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 700)).astype(np.float32)


@given(COUNTS, CUTS, CTAS, POLICY, ADVERSARY)
def test_products_are_right_in_any_order(counts, cuts, ctas, policy, choose):
    x = rows(sum(counts))
    expert = np.repeat(np.arange(4), counts)
    expected = np.einsum("rnm,rm->rn", W.astype(np.float64)[expert], x.astype(np.float64))
    found = run(counts, x, cuts, ctas, policy, choose)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert found.tobytes() == run(counts, x, cuts, ctas, policy, adversary([0])).tobytes()


@given(COUNTS, CTAS)
def test_the_bound_is_reached_and_holds(counts, ctas):
    bounds = FAMILY.bounds(Capacity(4, sum(counts), 0, ctas, 1, 0))
    most = max(sum(-(-n // FAMILY.rows) for n in split) for split in every_split(sum(counts)))
    assert bounds.tasks == bounds.chains == most


def every_split(rows):
    """Rows of four experts: those that need the most groups have one row, and the last one has what is left."""
    for ones in range(min(4, rows)):
        yield [1] * ones + [rows - ones]


@given(COUNTS, st.integers(0, 3), st.integers(0, 19), CUTS, CTAS, POLICY, ADVERSARY)
def test_rows_do_not_depend_on_other_rows_or_cuts(counts, expert, place, cuts, ctas, policy, choose):
    mine = rows(1, seed=5)
    counts[expert] += 1
    x = rows(sum(counts))
    at = sum(counts[:expert]) + place % counts[expert]
    x[at] = mine
    alone = run([int(e == expert) for e in range(4)], mine, Invariant(32), 2, "prefix-sums", adversary([0]))
    found = run(counts, x, cuts, ctas, policy, choose)
    assert found[at].tobytes() == alone[0].tobytes()


def test_arrays_of_other_shapes_are_refused():
    batch = ExpertBatch(np.zeros(5, np.int32))
    with pytest.raises(InvalidInput):
        ExpertGemvRunner(FAMILY, batch, W[:3], rows(2))
    with pytest.raises(InvalidInput):
        ExpertGemvRunner(FAMILY, batch, W, rows(2)[:, :-1])
