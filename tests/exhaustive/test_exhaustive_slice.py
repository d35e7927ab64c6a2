"""A slice of benchmarks/exhaustive.py in every test run: the checker says what the explorer says, graph by graph."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.exhaustive import compare

pytestmark = pytest.mark.slow

THREE_KERNELS, PARTS = 20_000, 8
STEP = 328_509 // (THREE_KERNELS + 200)


def assert_agreement(found: Counter[str], cases: int) -> None:
    assert found["cases"] >= cases
    assert found["unsound"] == found["disagreements"] == 0
    assert 0 < found["proved"] < found["cases"]


@pytest.mark.parametrize("part", range(PARTS))
def test_three_kernels(part: int) -> None:
    assert_agreement(compare(("three", part * STEP + part, PARTS * STEP)), THREE_KERNELS // PARTS)


@pytest.mark.parametrize("seed", range(4))
def test_random_graphs(seed: int) -> None:
    assert_agreement(compare(("random", 1000 + seed, 100)), 100)
