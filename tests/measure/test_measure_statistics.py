"""Pairs of calls that tell what they took; the rest is tested with the benchmarks (tests/benchmarks)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from forerun.measure.statistics import paired
from forerun.measure.step import _batch, time_pair, time_step


def test_drift_falls_out_of_pairs() -> None:
    clock: Iterator[int] = count(100)
    a, b = paired(lambda: float(next(clock)), lambda: next(clock) + 10.0, rounds=3)
    assert [y - x for x, y in zip(a, b, strict=True)] == [10.0] * 3


class Replays:
    """Stands in for an executable; takes so long, and counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.batches: list[int] = []

    def seconds_per_replay(self, replays: int) -> float:
        self.batches.append(replays)
        return self.seconds


@pytest.mark.parametrize("steps", [1, 7, 20, 320, 2000])
def test_as_many_steps_are_timed_as_were_asked_for(steps: int) -> None:
    program = Replays(2e-6)
    metric = time_step(program, steps)  # type: ignore[arg-type]
    assert (metric.value, metric.unit) == (2.0, "us")
    warm_up, *timed = program.batches
    assert steps - warm_up < sum(timed) <= steps
    first, second = Replays(1e-6), Replays(1.5e-6)
    pair = time_pair(first, second, steps)  # type: ignore[arg-type]
    assert (pair.first.value, pair.second.value) == (1.0, 1.5)
    assert pair.speedup.value == pytest.approx(1.5)
    assert first.batches == second.batches
    assert len(first.batches) >= min(20, steps // 2)
    assert 1 <= _batch(steps, 2) <= 16
