"""The figures of balance in docs/schedules.md are those of the results, and the goal is kept in every order."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks import performance
from benchmarks.schedules import CUTS, _one, batches, orders, table

METRICS = json.loads((performance.RESULTS / "schedules.json").read_text())["metrics"]


def test_the_table_of_the_docs_is_that_of_the_results():
    assert table(METRICS) in (performance.ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("chosen", ["shares.prefix_sums", "chunks.longest_first", "invariant.longest_first"])
def test_the_busiest_cta_has_at_most_a_twentieth_more_in_every_order(chosen):
    assert all(METRICS[f"{batch}.{chosen}"]["high"] <= 1.05 for batch in batches())


def test_the_results_are_those_of_the_code():
    """One of the combinations again: costs and policies are deterministic."""
    requests = batches()["log_uniform"]
    found = [_one(order, CUTS["shares"], "prefix-sums")[0] for order in orders(requests)]
    assert max(found) == pytest.approx(METRICS["log_uniform.shares.prefix_sums"]["high"])


def test_orders_are_orders_of_the_same_requests():
    requests = [(1, length) for length in random.Random(1).sample(range(100), 9)]
    found = list(orders(requests))
    assert all(sorted(order) == sorted(requests) for order in found)
    assert len({tuple(order) for order in found}) == len(found)
