"""Search for the fastest choices of a captured graph, by timing them on the GPU in the program's own graph."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from forerun.external.additive import predicted_best, varied
from forerun.external.choices import ORDERS, TARGETS, TRIGGERS, Choice, Choices, Order

__all__ = ["Candidate", "Measure", "Options", "Search", "Trial", "search"]

_GAIN = 0.002
"""The least relative gain of a change that is kept; smaller ones may be noise."""

_SAMPLED, _ROUNDS, _BATCH = 0.6, 2, 8
"""The share of the time spent on samples; rounds of sampling; and graphs per measurement."""

_MANY = -2
_AGAIN, _FINALS = 3, 4
"""Graphs built per candidate when a change is confirmed, and in the final comparison."""

_ALL = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
_KEEP = Choice("keep")
_STARTS = [_KEEP, *(choice for choice in _ALL if choice.target != "keep")]

Candidate: TypeAlias = tuple[Order, Choices]


class Measure(Protocol):
    """Measures the time of replays."""

    def __call__(self, candidates: Sequence[Candidate], turns: int = ...) -> Sequence[float]:
        """Return seconds per replay of each graph; infinity for graphs that may not run or have no suitable code."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: the choice, the function that it was applied to, seconds of a replay, and whether it was kept.

    ``function`` is -1 if the choice was applied to all functions, and -2 for a sample, in which each has its own.
    """

    order: Order
    choice: Choice
    seconds: float
    kept: bool
    function: int


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes:
        order: The faster order.
        choices: The fastest choices.
        seconds: Seconds of a replay with these choices.
        begin: Seconds of a replay with the best uniform choice, measured in the same comparison.
        trials: All measurements, in order.
    """

    order: Order
    choices: Choices
    seconds: float
    begin: float
    trials: tuple[Trial, ...]


Options: TypeAlias = Mapping[int, Sequence[Choice]]
"""The possible choices of each function, by its number; they include its own code."""


def search(
    launches: Counter[int],
    options: Options,
    measure: Measure,
    orders: Sequence[Order] = ORDERS,
    rounds: int = 1,
    limit_s: float = 120.0,
    untouched: Choices | None = None,
) -> Search:
    """Search for the fastest choices: first the same for all functions, then by samples, then function by function.

    Samples are graphs around the fastest one so far in which all functions vary at once; see
    :mod:`forerun.external.additive`. Candidates are timed in an interleaved order, since a GPU's speed drifts. A change
    is kept only if rebuilt graphs confirm the gain. Finally the result competes with the best uniform choice, and with
    the graph as captured.

    Args:
        launches: The number of nodes that launch each function whose code can be replaced.
        options: The possible choices of each of these functions.
        measure: Measures candidates.
        orders: The orders that differ.
        rounds: Passes over the functions one by one; the search ends earlier if a pass changes nothing.
        limit_s: Time limit in seconds; uniform choices are always tried.
        untouched: The choices that give the graph as captured; by default every function keeps its code.
    """
    options, end = {number: options[number] for number in launches}, time.monotonic() + limit_s
    starts = [(order, choice) for order in orders for choice in _STARTS]
    everywhere: list[Candidate] = [(order, _everywhere(choice, launches, options)) for order, choice in starts]
    seconds = measure(everywhere)
    trials = [Trial(*start, time_of, False, -1) for start, time_of in zip(starts, seconds, strict=True)]
    first = everywhere[min(range(len(starts)), key=seconds.__getitem__)]
    found = _of_samples(first, options, measure, trials, time.monotonic() + limit_s * _SAMPLED)
    for _ in range(rounds):
        before = found
        for function, _count in launches.most_common():
            if time.monotonic() < end:
                found = _with_best(function, options[function], found, measure, trials)
        if found == before or time.monotonic() > end:
            break
    kept = dict.fromkeys(launches, _KEEP) if untouched is None else untouched
    finals: list[Candidate] = [found]
    for one in (first, ("captured", kept), *_best_of_each(orders, everywhere, seconds)):
        finals += [one] if one not in finals else []
    means = _means(measure, finals, _FINALS)
    best = 0 if means[0] <= min(means) * (1 + _GAIN) else means.index(min(means))
    return Search(*finals[best], means[best], means[finals.index(first)], tuple(trials))


def _best_of_each(
    orders: Sequence[Order], candidates: Sequence[Candidate], seconds: Sequence[float]
) -> Iterator[Candidate]:
    for order in orders:
        own = [number for number, candidate in enumerate(candidates) if candidate[0] == order]
        yield candidates[min(own, key=seconds.__getitem__)]


def _of_samples(start: Candidate, options: Options, measure: Measure, trials: list[Trial], end: float) -> Candidate:
    """Improve the start with choices predicted from samples around it, in two rounds; keep them if they are faster."""
    order, choices = start
    random = Random(0)
    samples: list[tuple[Choices, float]] = []
    for _ in range(_ROUNDS):
        for _ in range(len(options)):
            if time.monotonic() < end:
                drawn = [varied(choices, options, random) for _ in range(_BATCH)]
                times = measure([(order, one) for one in drawn], 1)
                samples += zip(drawn, times, strict=True)
                trials += [Trial(order, _KEEP, seconds, False, _MANY) for seconds in times]
        changed = {**choices, **predicted_best(samples, options)}
        if changed == choices:
            break
        again, other = _means(measure, [(order, choices), (order, changed)], _AGAIN)
        choices = changed if other < again * (1 - _GAIN) else choices
    return order, choices


def _with_best(
    function: int, options: Sequence[Choice], found: Candidate, measure: Measure, trials: list[Trial]
) -> Candidate:
    """Try all choices for one function, record them as trials, and return the best candidate."""
    order, choices = found
    others = [choice for choice in options if choice != choices[function]]
    changed: list[Candidate] = [(order, {**choices, function: choice}) for choice in others]
    base, *seconds = measure([found, *changed])
    best = min(range(len(others)), key=seconds.__getitem__, default=-1)
    is_better = best >= 0 and seconds[best] < base * (1 - _GAIN)
    if is_better:
        again, other = _means(measure, [found, changed[best]], _AGAIN)
        is_better = other < again * (1 - _GAIN)
    for number, choice in enumerate(others):
        trials.append(Trial(order, choice, seconds[number], is_better and number == best, function))
    return changed[best] if is_better else found


def _means(measure: Measure, candidates: Sequence[Candidate], count: int) -> list[float]:
    """The mean seconds over several graphs of each candidate, timed in an interleaved order."""
    found = measure([*candidates] * count)
    return [statistics.fmean(found[number :: len(candidates)]) for number in range(len(candidates))]


def _everywhere(choice: Choice, launches: Counter[int], options: Options) -> Choices:
    """One choice for all functions, without its trigger where that is not possible; the others keep their code."""
    found: dict[int, Choice] = {}
    for function in launches:
        tried = (choice, Choice(choice.target), _KEEP)
        found[function] = next((one for one in tried if one in options[function]), _KEEP)
    return found
