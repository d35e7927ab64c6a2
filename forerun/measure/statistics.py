"""A B B A pairs, and medians with bootstrap intervals."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Metric", "abba", "bootstrap_median", "bootstrap_median_ratio", "paired", "timed", "turn"]

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval."""

    value: float
    unit: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit} (95 %: {self.low:.4g} to {self.high:.4g})"


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def abba(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Time two things in the order A B B A, ``rounds`` times, after one run of each to warm up.

    Drift that is linear in time falls out of each round. Returns the mean seconds of each, a round an entry.
    """
    return paired(lambda: timed(first), lambda: timed(second), rounds)


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Time two things as :func:`abba` does, by calls that return their own seconds."""
    first()
    second()
    found = [turn(first, second) for _ in range(rounds)]
    return [a for a, _ in found], [b for _, b in found]


def turn(first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """One round A B B A of such calls: the mean of each."""
    a1, b1, b2, a2 = first(), second(), second(), first()
    return (a1 + a2) / 2, (b1 + b2) / 2


def bootstrap_median(samples: Sequence[float], unit: str) -> Metric:
    """The median with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13); seeded."""
    chooser = random.Random(0)
    medians = sorted(statistics.median(chooser.choices(samples, k=len(samples))) for _ in range(_RESAMPLES))
    low, high = medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1]
    return Metric(statistics.median(samples), unit, low, high)


def bootstrap_median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Metric:
    """The median of the ratios of paired samples, with its interval."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return bootstrap_median(ratios, "ratio")
